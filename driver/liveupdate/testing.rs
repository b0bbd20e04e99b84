// SPDX-License-Identifier: GPL-2.0

//! For KUnit tests of handlers: calls a handler as LUO does, and pretends the kexec.
//!
//! [`Kept`] is a file in the old kernel and [`Arrived`] one in the new. The calls go through the
//! table of functions that LUO has. Instead of a kexec, the live state is leaked, as a kexec would
//! lose it, and [`Preserved`] memory can be taken by its handle in the kernel that preserved it.
//! The objects of a slab cache can be taken once it was sent over by [`cross`]. What a handler
//! preserves by other means cannot. Neither FLBs nor other handlers are involved. If the live state
//! holds a file, that is leaked with it: a module whose tests did so stays loaded.
//!
//! [`Preserved`]: super::Preserved

use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};

use zerocopy::Immutable;

use crate::{
    bindings,
    error::{
        code::*,
        to_result,
        Error,
        Result, //
    },
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    },
    types::ScopeGuard, //
};

use super::{
    slab::Slab,
    FileHandler,
    HandlerSlot, //
};

/// How much memory tests can have preserved at a time.
const ROOM: usize = 32;

/// The addresses of what tests preserved; in the low bits, which are 0 in addresses of pages, the
/// [`Kept`] that did so, or [`CROSSED`]. 0 is a free place.
static NOTED: [Atomic<u64>; ROOM] = [const { Atomic::new(0) }; ROOM];

const LOW_BITS: u64 = 0xfff;

/// In the place of a [`Kept`]: the kexec is past.
const CROSSED: u64 = LOW_BITS;

/// The task whose preservations are noted at the moment, if any.
static TASK: Atomic<usize> = Atomic::new(0);

/// The [`Kept`] on behalf of which they are noted.
static OWNER: Atomic<u64> = Atomic::new(0);

/// Changes the first note that `matches`.
fn change(matches: impl Fn(u64) -> bool, to: impl Fn(u64) -> u64) -> bool {
    NOTED.iter().any(|place| {
        let note = place.load(Relaxed);
        matches(note) && place.cmpxchg(note, to(note), Relaxed).is_ok()
    })
}

/// A slot for a handler that only tests know: it is never registered, so its format is not
/// declared.
pub const fn slot<T: FileHandler>() -> HandlerSlot<T> {
    HandlerSlot::__new(None)
}

fn this_task() -> usize {
    current!().as_ptr().addr()
}

/// Memory was preserved at `phys`.
pub(super) fn note(phys: u64) {
    if TASK.load(Relaxed) == this_task() {
        let owner = OWNER.load(Relaxed);
        change(|note| note == 0, |_| phys | owner);
    }
}

/// Memory at `phys` is preserved no longer.
pub(super) fn forget(phys: u64) {
    change(|note| note & !LOW_BITS == phys, |_| 0);
}

/// Takes the memory at `phys` if it went through a pretended kexec.
pub(super) fn take(phys: u64) -> Option<NonNull<bindings::folio>> {
    if !change(|note| note == phys | CROSSED, |_| 0) {
        return None;
    }
    // SAFETY: Only `Preserved` memory is noted, so a folio is there. It has not been freed, since
    // then the note would be gone.
    let folio = unsafe { bindings::phys_folio(phys) };
    // SAFETY: As above. Its owner was leaked when it went through the kexec, and the note is gone:
    // it belongs to the caller.
    unsafe { bindings::kho_unpreserve_folio(folio) };
    NonNull::new(folio)
}

/// Pretends a kexec for a slab cache: the objects that were kept are those that the previous kernel
/// left.
///
/// # Errors
///
/// [`EBUSY`] as long as somebody has an object, or another reference to the cache.
pub fn cross<T: FromBytes + IntoBytes + Immutable>(slab: Slab<T>) -> Result<Slab<T>> {
    slab.cross()
}

/// A file that is preserved, in the old kernel. Dropping it gives up the preservation, as closing
/// the session does.
pub struct Kept<T: FileHandler> {
    slot: &'static HandlerSlot<T>,
    file: ARef<File>,
    handle: u64,
    live: *mut c_void,
    number: u64,
}

impl<T: FileHandler> Kept<T> {
    /// Preserves `file`, as the ioctl does.
    ///
    /// # Errors
    ///
    /// - [`ENOENT`] if the handler does not want the file.
    /// - [`EBUSY`] if another task is testing.
    /// - Whatever the handler returns.
    pub fn preserve(slot: &'static HandlerSlot<T>, file: ARef<File>) -> Result<Self> {
        static NUMBER: Atomic<u64> = Atomic::new(0);
        let ops = Self::ops(slot);
        let can_preserve = ops.can_preserve.ok_or(EINVAL)?;
        // SAFETY: The handler and the file are valid; the file is referenced.
        if !unsafe { can_preserve(slot.as_raw(), file.as_ptr()) } {
            return Err(ENOENT);
        }
        let mut kept = ManuallyDrop::new(Self {
            slot,
            file,
            handle: 0,
            live: core::ptr::null_mut(),
            number: NUMBER.fetch_add(1u64, Relaxed) % (CROSSED - 1) + 1,
        });
        let preserve = ops.preserve.ok_or(EINVAL);
        let done = preserve.and_then(|preserve| {
            // SAFETY: The arguments are those of an operation on the file.
            kept.noting(|args| to_result(unsafe { preserve(args) }))
        });
        match done {
            Ok(()) => Ok(ManuallyDrop::into_inner(kept)),
            Err(err) => {
                // SAFETY: It is not used any more, and dropped once. Nothing else in it needs it.
                unsafe { core::ptr::drop_in_place(&mut kept.file) };
                Err(err)
            }
        }
    }

    /// Freezes the file, as reboot(2) does.
    ///
    /// # Errors
    ///
    /// Those of the handler.
    pub fn freeze(&mut self) -> Result {
        let Some(freeze) = Self::ops(self.slot).freeze else {
            return Ok(());
        };
        // SAFETY: The arguments are those of an operation on the preserved file.
        self.noting(|args| to_result(unsafe { freeze(args) }))
    }

    /// Has another version of the format written, as LUO does when it is known what the next kernel
    /// reads.
    ///
    /// # Errors
    ///
    /// Those of the other handler, with what is as it was; [`EPROTONOSUPPORT`] if it rewrites
    /// nothing.
    pub fn rewrite<U: FileHandler<Live = T::Live>>(
        mut self,
        slot: &'static HandlerSlot<U>,
    ) -> core::result::Result<Kept<U>, (Self, Error)> {
        let done = HandlerSlot::<U>::CONVERT
            .ok_or(EPROTONOSUPPORT)
            .and_then(|convert| {
                // SAFETY: The arguments are those of an operation on the preserved file. Both
                // handlers keep a `T::Live`.
                self.noting(|args| to_result(unsafe { convert(args, 0) }))
            });
        if let Err(err) = done {
            return Err((self, err));
        }
        let kept = ManuallyDrop::new(self);
        Ok(Kept {
            slot,
            // SAFETY: It is moved out of what is neither used nor dropped any more.
            file: unsafe { core::ptr::read(&kept.file) },
            handle: kept.handle,
            live: kept.live,
            number: kept.number,
        })
    }

    /// Unfreezes the file, as a reboot(2) that fails does.
    pub fn unfreeze(&mut self) {
        if let Some(unfreeze) = Self::ops(self.slot).unfreeze {
            // SAFETY: The arguments are those of an operation on the preserved file.
            unsafe { unfreeze(&mut self.args()) };
        }
    }

    /// What two descriptors of the same thing have in common, as LUO sees it.
    pub fn id(&self) -> usize {
        match Self::ops(self.slot).get_id {
            // SAFETY: The file is valid and referenced.
            Some(get_id) => unsafe { get_id(self.file.as_ptr()) },
            None => self.file.as_ptr().addr(),
        }
    }

    /// What would be written for the file.
    pub fn raw_handle(&self) -> u64 {
        self.handle
    }

    /// Goes to the new kernel. The live state is leaked: no kexec drops anything.
    pub fn kexec(self) -> Arrived<T> {
        let kept = ManuallyDrop::new(self);
        while change(
            |note| note != 0 && note & LOW_BITS == kept.number,
            |note| note | CROSSED,
        ) {}
        Arrived::with(kept.slot, kept.handle)
    }

    fn ops(slot: &HandlerSlot<T>) -> &'static bindings::liveupdate_file_ops {
        // SAFETY: The slot is initialised; its table is a constant.
        unsafe { &*(*slot.as_raw()).ops }
    }

    fn args(&self) -> bindings::liveupdate_file_op_args {
        bindings::liveupdate_file_op_args {
            handler: self.slot.as_raw(),
            retrieve_status: 0,
            file: self.file.as_ptr(),
            serialized_data: self.handle,
            private_data: self.live,
        }
    }

    /// Calls an operation while what it preserves is noted, and keeps what it says if it succeeds.
    fn noting(
        &mut self,
        call: impl FnOnce(&mut bindings::liveupdate_file_op_args) -> Result,
    ) -> Result {
        TASK.cmpxchg(0, this_task(), Relaxed).map_err(|_| EBUSY)?;
        let _done = ScopeGuard::new(|| TASK.store(0, Relaxed));
        OWNER.store(self.number, Relaxed);
        let mut args = self.args();
        call(&mut args)?;
        self.handle = args.serialized_data;
        self.live = args.private_data;
        Ok(())
    }
}

impl<T: FileHandler> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Some(unpreserve) = Self::ops(self.slot).unpreserve {
            // SAFETY: The arguments are those of an operation on the preserved file; this is the
            // last.
            unsafe { unpreserve(&mut self.args()) };
        }
    }
}

/// A file that came from the previous kernel, and may not have been asked for yet. Dropping it
/// finishes it.
pub struct Arrived<T: FileHandler> {
    slot: &'static HandlerSlot<T>,
    handle: u64,
    file: Option<ARef<File>>,
    status: c_int,
}

impl<T: FileHandler> Arrived<T> {
    /// A file for which the previous kernel, which may have bugs, wrote `handle`.
    pub fn with(slot: &'static HandlerSlot<T>, handle: u64) -> Self {
        Self {
            slot,
            handle,
            file: None,
            status: 0,
        }
    }

    /// What was written for the file.
    pub fn raw_handle(&self) -> u64 {
        self.handle
    }

    /// Retrieves the file, as the ioctl does; again, it gives the same result.
    ///
    /// # Errors
    ///
    /// Those of the handler.
    pub fn retrieve(&mut self) -> Result<ARef<File>> {
        if self.status == 0 {
            let retrieve = Kept::ops(self.slot).retrieve.ok_or(EINVAL)?;
            let mut args = self.args();
            // SAFETY: The arguments are those of a retrieval.
            self.status = unsafe { retrieve(&mut args) };
            if self.status == 0 {
                let file = NonNull::new(args.file.cast()).ok_or(EINVAL)?;
                // SAFETY: A retrieval that succeeds passes on a reference to a file, of which
                // nobody has the position.
                self.file = Some(unsafe { ARef::from_raw(file) });
                self.status = 1;
            }
        }
        to_result(self.status)?;
        self.file.clone().ok_or(EINVAL)
    }

    /// Whether the handler lets the session finish.
    pub fn can_finish(&self) -> bool {
        match Kept::ops(self.slot).can_finish {
            // SAFETY: The arguments are those of an operation on a file in the new kernel.
            Some(can_finish) => unsafe { can_finish(&mut self.args()) },
            None => true,
        }
    }

    fn args(&self) -> bindings::liveupdate_file_op_args {
        bindings::liveupdate_file_op_args {
            handler: self.slot.as_raw(),
            retrieve_status: self.status,
            file: self
                .file
                .as_ref()
                .map_or(core::ptr::null_mut(), |file| file.as_ptr()),
            serialized_data: self.handle,
            private_data: core::ptr::null_mut(),
        }
    }
}

impl<T: FileHandler> Drop for Arrived<T> {
    fn drop(&mut self) {
        if let Some(finish) = Kept::ops(self.slot).finish {
            // SAFETY: The arguments are those of an operation on a file in the new kernel; this is
            // the last.
            unsafe { finish(&mut self.args()) };
        }
    }
}
