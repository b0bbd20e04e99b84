// SPDX-License-Identifier: GPL-2.0

//! An example: a driver whose files live through a live update.
//!
//! Each file counts: read(2) gives the next number, in eight bytes; write(2) sets it. The device
//! `/dev/liveupdate-counter` makes such files, by the ioctl `'C', 1`, which returns a descriptor.
//! The same ioctl of a counter makes one that needs this one. What makes the file live through an
//! update is [`CounterHandler`].

use kernel::{
    fs::{
        file::{
            flags,
            FileDescriptorReservation, //
        },
        File, //
    },
    ioctl::_IO,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    liveupdate::{
        anon::{
            AnonFile,
            AnonType, //
        },
        Family,
        FileHandler,
        Flb,
        Handle,
        Needs,
        Number,
        Preserved,
        Registration, //
    },
    liveupdate_flb,
    liveupdate_handler,
    liveupdate_layout,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    }, //
};

use zerocopy_derive::Immutable;

module! {
    type: CounterModule,
    name: "liveupdate_counter",
    authors: ["The authors of the live update crate"],
    description: "Counters that live through a live update",
    license: "GPL",
}

// The files.

struct State {
    next: u64,
    /// Preserved: it may count, but not be set.
    preserved: bool,
    /// What is handed over was written for the last time: it may not even count.
    frozen: bool,
}

#[pin_data]
struct Counter {
    /// What must be preserved before it.
    needed: Option<ARef<File>>,
    #[pin]
    state: Mutex<State>,
}

impl Counter {
    fn new(next: u64, needed: Option<ARef<File>>) -> impl PinInit<Self> {
        pin_init!(Self {
            needed,
            state <- new_mutex!(State { next, preserved: false, frozen: false }),
        })
    }
}

static COUNTERS: AnonType<Counter> = AnonType::new();

#[vtable]
impl AnonFile for Counter {
    const NAME: &'static CStr = c"[liveupdate_counter]";

    fn read(&self, to: &mut IovIterDest<'_>) -> Result<usize> {
        let mut state = self.state.lock();
        if state.frozen {
            return Err(EBUSY);
        }
        let after = state.next.checked_add(1).ok_or(EOVERFLOW)?;
        let read = to.copy_to_iter(state.next.as_bytes());
        state.next = after;
        Ok(read)
    }

    fn write(&self, from: &mut IovIterSource<'_>) -> Result<usize> {
        let mut next = [0; 8];
        if from.copy_from_iter(&mut next) != next.len() {
            return Err(EINVAL);
        }
        let mut state = self.state.lock();
        if state.preserved {
            return Err(EBUSY);
        }
        state.next = u64::from_ne_bytes(next);
        history::add(state.next);
        Ok(next.len())
    }

    fn ioctl(&self, file: &File, cmd: u32, _arg: usize) -> Result<isize> {
        descriptor(cmd, Some(file.into()))
    }
}

// The handler: what a live update needs to know of them.

/// What is handed over for a file. Another layout is another version, with a `COMPATIBLE` of its
/// own.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct CounterRecord {
    next: u64,
    /// `!next`: a record that was damaged is not taken for a counter.
    check: u64,
}

impl CounterRecord {
    fn new(next: u64) -> Self {
        Self { next, check: !next }
    }

    fn read(&self) -> Result<u64> {
        match self.check == !self.next {
            true => Ok(self.next),
            false => Err(EBADMSG),
        }
    }
}

/// What version 1 handed over. It is read for ever, and written for kernels that know nothing else.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct OldRecord {
    next: u64,
}

/// What is written for a counter, in one version or the other.
enum Written {
    New(Preserved<CounterRecord>),
    Old(Preserved<OldRecord>),
}

/// A preserved counter, in the old kernel. Dropping it makes it an ordinary one again.
struct PreservedCounter {
    file: ARef<File>,
    record: Written,
}

impl PreservedCounter {
    fn new(file: &File, record: Written) -> Result<Self> {
        let counter = COUNTERS.of(file).ok_or(EINVAL)?;
        counter.state.lock().preserved = true;
        let file = ARef::from(file);
        Ok(Self { file, record })
    }

    fn freeze(&mut self, file: &File) -> Result {
        let mut state = COUNTERS.of(file).ok_or(EINVAL)?.state.lock();
        state.frozen = true;
        match &mut self.record {
            Written::New(record) => **record = CounterRecord::new(state.next),
            Written::Old(record) => record.next = state.next,
        }
        Ok(())
    }
}

impl Drop for PreservedCounter {
    fn drop(&mut self) {
        if let Some(counter) = COUNTERS.of(&self.file) {
            counter.state.lock().preserved = false;
        }
    }
}

/// The handlers of both versions keep a [`PreservedCounter`].
static FAMILY: Family<PreservedCounter> = Family::new();

struct CounterHandler;

liveupdate_handler! {
    static HANDLER: CounterHandler, in FAMILY;
}

#[vtable]
impl FileHandler for CounterHandler {
    const COMPATIBLE: &'static CStr = c"liveupdate-counter-v2";
    const LAYOUT: u32 = liveupdate_layout!(CounterRecord { next, check });

    type Handle = Handle<CounterRecord>;
    type Live = PreservedCounter;

    fn can_preserve(file: &File) -> bool {
        COUNTERS.of(file).is_some()
    }

    fn needs(file: &File, needs: &mut Needs<'_>) -> Result {
        if let Some(needed) = COUNTERS.of(file).and_then(|c| c.needed.as_ref()) {
            needs.file(needed);
        }
        Ok(())
    }

    fn preserve(file: &File) -> Result<(Self::Handle, Self::Live)> {
        let record = Preserved::<CounterRecord>::zeroed()?;
        let handle = record.handle();
        Ok((handle, PreservedCounter::new(file, Written::New(record))?))
    }

    fn freeze(live: &mut Self::Live, file: &File, handle: Self::Handle) -> Result<Self::Handle> {
        live.freeze(file)?;
        Ok(handle)
    }

    fn rewrite(live: &mut Self::Live, _file: &File) -> Result<Self::Handle> {
        let record = Preserved::<CounterRecord>::zeroed()?;
        let handle = record.handle();
        // What the other version wrote is given back here.
        live.record = Written::New(record);
        Ok(handle)
    }

    fn unfreeze(_live: &mut Self::Live, file: &File) {
        if let Some(counter) = COUNTERS.of(file) {
            counter.state.lock().frozen = false;
        }
    }

    fn retrieve(handle: Self::Handle) -> Result<ARef<File>> {
        go_on(handle.take()?.read()?)
    }
}

/// A counter that has arrived.
fn go_on(next: u64) -> Result<ARef<File>> {
    let update = UPDATES.incoming().map_or(0, |updates| *updates);
    pr_info!("goes on with {next}, update {update}\n");
    COUNTERS.create(Counter::new(next, None))
}

/// The handler of version 1.
struct OldHandler;

liveupdate_handler! {
    static OLD_HANDLER: OldHandler, in FAMILY;
}

#[vtable]
impl FileHandler for OldHandler {
    const COMPATIBLE: &'static CStr = c"liveupdate-counter-v1";
    const LAYOUT: u32 = liveupdate_layout!(OldRecord { next });

    type Handle = Handle<OldRecord>;
    type Live = PreservedCounter;

    fn can_preserve(file: &File) -> bool {
        CounterHandler::can_preserve(file)
    }

    fn needs(file: &File, needs: &mut Needs<'_>) -> Result {
        CounterHandler::needs(file, needs)
    }

    fn preserve(file: &File) -> Result<(Self::Handle, Self::Live)> {
        let record = Preserved::<OldRecord>::zeroed()?;
        let handle = record.handle();
        Ok((handle, PreservedCounter::new(file, Written::Old(record))?))
    }

    fn freeze(live: &mut Self::Live, file: &File, handle: Self::Handle) -> Result<Self::Handle> {
        live.freeze(file)?;
        Ok(handle)
    }

    fn rewrite(live: &mut Self::Live, _file: &File) -> Result<Self::Handle> {
        let record = Preserved::<OldRecord>::zeroed()?;
        let handle = record.handle();
        live.record = Written::Old(record);
        Ok(handle)
    }

    fn unfreeze(live: &mut Self::Live, file: &File) {
        CounterHandler::unfreeze(live, file);
    }

    fn retrieve(handle: Self::Handle) -> Result<ARef<File>> {
        go_on(handle.take()?.next)
    }
}

// What all counters share: how many updates there were while a counter was preserved.

struct Updates;

liveupdate_flb! {
    static UPDATES: Updates;
}

/// Those before this kernel.
static BEFORE: Atomic<u64> = Atomic::new(0);

#[vtable]
impl Flb for Updates {
    const COMPATIBLE: &'static CStr = c"liveupdate-counter-updates-v1";

    type Handle = Number;
    type Outgoing = ();
    type Incoming = u64;

    fn preserve() -> Result<(Number, ())> {
        Ok((Number::new(BEFORE.load(Relaxed).saturating_add(1)), ()))
    }

    fn retrieve(handle: Number) -> Result<u64> {
        BEFORE.store(handle.get(), Relaxed);
        Ok(handle.get())
    }
}

// The device that makes counters.

const NEW_COUNTER: u32 = _IO('C' as u32, 1);

struct Maker;

#[vtable]
impl MiscDevice for Maker {
    type Ptr = KBox<()>;

    fn open(_file: &File, _device: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Ok(KBox::new((), GFP_KERNEL)?)
    }

    fn ioctl(_device: &(), _file: &File, cmd: u32, _arg: usize) -> Result<isize> {
        descriptor(cmd, None)
    }
}

/// A new counter, if `cmd` asks for one.
fn descriptor(cmd: u32, needed: Option<ARef<File>>) -> Result<isize> {
    if cmd != NEW_COUNTER {
        return Err(ENOTTY);
    }
    let fd = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let number = isize::try_from(fd.reserved_fd())?;
    fd.fd_install(COUNTERS.create(Counter::new(1, needed))?);
    Ok(number)
}

#[pin_data]
struct CounterModule {
    _handler: Option<Registration<CounterHandler>>,
    _old: Option<Registration<OldHandler>>,
    #[pin]
    _device: MiscDeviceRegistration<Maker>,
}

impl kernel::InPlaceModule for CounterModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _handler: match HANDLER.register_if_enabled()? {
                Some(handler) => {
                    let handler = handler.with(&UPDATES)?.with(&history::HISTORY)?;
                    // Asked for early, so that it is known before a counter is preserved.
                    drop(UPDATES.incoming());
                    drop(history::HISTORY.incoming());
                    Some(handler)
                }
                None => None,
            },
            _old: match OLD_HANDLER.register_if_enabled()? {
                Some(handler) => Some(handler.with(&UPDATES)?.with(&history::HISTORY)?),
                None => None,
            },
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"liveupdate-counter",
            }),
        })
    }
}

mod history;

#[cfg(CONFIG_KUNIT)]
mod counter_tests;
#[cfg(CONFIG_KUNIT)]
mod history_tests;
