// SPDX-License-Identifier: GPL-2.0

//! A sample: a driver whose requests live through a live update while they are worked on.
//!
//! The module has a table of requests, in a preserved slab cache, and a device that works on a
//! batch of them at a time. Nothing is done before the kexec: there is no handler, no notifier and
//! nothing to freeze. The device is cut off in the middle of a batch. What a request's state is
//! stands in one number of its record, which one store changes, and what that number promises was
//! written before it ([`Object::in_order`]). So the table is right at whatever instant the machine
//! jumps.
//!
//! The next kernel attaches the cache by its name. Requests that are done stay done, those that are
//! queued are worked on in turn, and those that were in flight, of which nobody knows how far they
//! got, are started again. Once all are done, each is verified, and the table is freed.
//!
//! Nothing that arrives is trusted. A record that is not that of a request, or is one of a request
//! that is there already, is reported, freed, and the request missed; a lost one is made again, as
//! a driver would have its peer send it again.
//!
//! The module does nothing unless it is told how many requests there are:
//! `liveupdate_ring.requests=10000`.

use kernel::{
    liveupdate::slab::{
        Object,
        Slab, //
    },
    liveupdate_format,
    liveupdate_layout,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::msecs_to_jiffies,
    workqueue::{
        self,
        impl_has_delayed_work,
        new_delayed_work,
        DelayedWork,
        WorkItem, //
    }, //
};

use zerocopy_derive::Immutable;

module! {
    type: RingModule,
    name: "liveupdate_ring",
    authors: ["The authors of the live update crate"],
    description: "Requests that live through a live update while they are worked on",
    license: "GPL",
    params: {
        requests: u64 {
            default: 0,
            description: "Requests in the table, 0 for no table at all",
        },
        milliseconds: u32 {
            default: 50,
            description: "How long the device takes for a batch of requests",
        },
    },
}

/// Another layout of [`Request`] is another name.
const NAME: &CStr = c"liveupdate-ring-v1";

/// Most requests that a table may have.
const MOST: u64 = 1 << 20;

/// Bad requests that the log names; the others are counted.
const NAMED: u64 = 20;

/// Requests that the device works on at a time.
const BATCH: usize = 32;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    InFlight,
    Done,
}

/// State, attempts and completions: the one number of a request that changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    state: State,
    /// How often it was given to the device.
    attempts: u16,
    /// How often the device completed it.
    completions: u8,
}

impl Status {
    const NEW: Self = Self {
        state: State::Queued,
        attempts: 0,
        completions: 0,
    };

    /// No status is 0, which is what a record has before anything was written to it.
    fn encode(self) -> u32 {
        let state = match self.state {
            State::Queued => 1,
            State::InFlight => 2,
            State::Done => 3,
        };
        state | u32::from(self.completions) << 8 | u32::from(self.attempts) << 16
    }

    /// What a number means, if it is one that this module writes.
    fn decode(number: u32) -> Option<Self> {
        let [state, completions, low, high] = number.to_le_bytes();
        let attempts = u16::from_le_bytes([low, high]);
        let state = match (state, attempts, completions) {
            (1, 0, 0) => State::Queued,
            (2, 1.., 0) => State::InFlight,
            (3, 1.., 1) => State::Done,
            _ => return None,
        };
        Some(Self {
            state,
            attempts,
            completions,
        })
    }

    fn started(self) -> Self {
        Self {
            state: State::InFlight,
            attempts: self.attempts.saturating_add(1),
            ..self
        }
    }

    fn completed(self) -> Self {
        Self {
            state: State::Done,
            completions: self.completions.saturating_add(1),
            ..self
        }
    }
}

/// A request, as it is handed over: any 64 bytes may be one.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Request {
    id: u64,
    sector: u64,
    length: u32,
    /// A [`Status`].
    status: u32,
    /// What the device is to work on, and its checksum with what stands above.
    payload: [u64; 2],
    check: u64,
    /// What came of it, once it is done.
    result: u64,
    reserved: u64,
}

liveupdate_format!(
    NAME,
    liveupdate_layout!(Request {
        id,
        sector,
        length,
        status,
        payload,
        check,
        result,
        reserved
    })
);

/// FNV-1a of words.
fn sum(words: &[u64]) -> u64 {
    words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

impl Request {
    /// The request of this number. Whoever asks for it again asks for the same.
    fn new(id: u64) -> Self {
        let mut request = Self {
            id,
            sector: id * 8,
            length: 512 << (id % 4),
            status: Status::NEW.encode(),
            payload: [sum(&[id, 1]), sum(&[id, 2])],
            check: 0,
            result: 0,
            reserved: 0,
        };
        request.check = request.checksum();
        request
    }

    /// Of all that does not change.
    fn checksum(&self) -> u64 {
        let [first, second] = self.payload;
        sum(&[self.id, self.sector, self.length.into(), first, second])
    }

    /// What the device makes of it.
    fn outcome(&self) -> u64 {
        sum(&[self.check, self.payload[0] ^ self.payload[1]])
    }

    /// Its status, if this is a request of a table of so many, whole, and in a state that can be.
    fn judge(&self, requests: u64) -> Result<Status, &'static str> {
        if self.id >= requests {
            return Err("there is no such request");
        }
        if self.check != self.checksum() || self.reserved != 0 {
            return Err("it was changed");
        }
        let status = Status::decode(self.status).ok_or("it has an impossible state")?;
        match status.state {
            State::Done if self.result != self.outcome() => Err("it has a wrong result"),
            _ => Ok(status),
        }
    }
}

/// What there is of the table, counted.
#[derive(Clone, Copy, Default)]
struct Tally {
    queued: u64,
    in_flight: u64,
    done: u64,
}

impl Tally {
    fn add(&mut self, state: State) {
        match state {
            State::Queued => self.queued += 1,
            State::InFlight => self.in_flight += 1,
            State::Done => self.done += 1,
        }
    }
}

/// The table, and where the device is in it.
struct Table {
    slab: Slab<Request>,
    /// By their numbers; those that the module could not make sense of are missing.
    requests: KVVec<Option<Object<Request>>>,
    /// Those that the device works on, by their numbers. There is room for all.
    batch: KVVec<usize>,
    /// The first one that the device has not come to.
    next: usize,
    done: u64,
    /// Done when they arrived.
    done_before: u64,
}

impl Table {
    /// A table of requests of which nothing was done.
    fn new(requests: u64) -> Result<Self> {
        let mut table = Self::empty(Slab::create(NAME)?, requests)?;
        for id in 0..requests {
            table.put(id)?;
        }
        pr_info!("{requests} requests are queued\n");
        Ok(table)
    }

    fn empty(slab: Slab<Request>, requests: u64) -> Result<Self> {
        let count = usize::try_from(requests)?;
        let mut places = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            places.push(None, GFP_KERNEL)?;
        }
        Ok(Self {
            slab,
            requests: places,
            batch: KVVec::with_capacity(count, GFP_KERNEL)?,
            next: 0,
            done: 0,
            done_before: 0,
        })
    }

    /// Makes a request.
    fn put(&mut self, id: u64) -> Result {
        let request = self.slab.alloc(Request::new(id))?;
        *self.place(id).ok_or(EINVAL)? = Some(request);
        Ok(())
    }

    fn place(&mut self, id: u64) -> Option<&mut Option<Object<Request>>> {
        self.requests.get_mut(usize::try_from(id).ok()?)
    }

    /// The table that the previous kernel left in a cache.
    ///
    /// What can fail is done before the first request is taken: one that is dropped is freed.
    fn resume(slab: Slab<Request>, requests: u64) -> Result<Self> {
        let arrived = slab.count();
        let mut table = Self::empty(slab.clone(), requests)?;
        let (mut tally, mut bad) = (Tally::default(), 0u64);
        for request in slab.left()? {
            let id = request.id;
            match table.admit(request) {
                Ok(state) => tally.add(state),
                Err(why) => {
                    bad += 1;
                    if bad <= NAMED {
                        pr_warn!("request {id} is dropped: {why}\n");
                    }
                }
            }
        }
        pr_info!(
            "{arrived} requests arrived: {} queued, {} in flight, {} done, {bad} dropped\n",
            tally.queued,
            tally.in_flight,
            tally.done
        );
        table.done = tally.done;
        table.done_before = tally.done;
        table.make_missing();
        table.restart();
        Ok(table)
    }

    /// Takes in a request that arrived, if it is one.
    fn admit(&mut self, request: Object<Request>) -> Result<State, &'static str> {
        let status = request.judge(self.requests.len() as u64)?;
        match self.place(request.id) {
            Some(place @ None) => *place = Some(request),
            Some(_) => return Err("there are two of it"),
            None => return Err("there is no such request"),
        }
        Ok(status.state)
    }

    /// Makes those again that did not arrive.
    fn make_missing(&mut self) {
        let mut missing = 0u64;
        for id in 0..self.requests.len() as u64 {
            if self.place(id).is_some_and(|place| place.is_none()) {
                missing += 1;
                if self.put(id).is_err() {
                    pr_err!("no memory for request {id}\n");
                }
            }
        }
        if missing > 0 {
            pr_warn!("{missing} requests were missing, and are queued again\n");
        }
    }

    /// Gives the device what it had not finished when the machine jumped.
    fn restart(&mut self) {
        for index in 0..self.requests.len() {
            self.start(index, State::InFlight);
        }
        if !self.batch.is_empty() {
            pr_info!("{} requests are started again\n", self.batch.len());
        }
    }

    fn status(&self, index: usize) -> Option<Status> {
        Status::decode(self.requests.get(index)?.as_ref()?.status)
    }

    /// Gives a request to the device, if it is in this state.
    fn start(&mut self, index: usize, from: State) {
        let status = self.status(index).filter(|status| status.state == from);
        if let (Some(status), Some(Some(request))) = (status, self.requests.get_mut(index)) {
            if self.batch.push_within_capacity(index).is_ok() {
                request.status = status.started().encode();
            }
        }
    }

    /// The device has done what it had to do for a request.
    fn complete(&mut self, index: usize) {
        let status = self.status(index);
        if let (Some(status), Some(Some(request))) = (status, self.requests.get_mut(index)) {
            // No kernel may find it done and without its result.
            request.in_order(
                |request| request.result = request.outcome(),
                |request| request.status = status.completed().encode(),
            );
            self.done += 1;
        }
    }

    /// The device has finished what it had, and gets more. Whether there is any.
    fn work(&mut self) -> bool {
        let before = self.done;
        while let Some(index) = self.batch.pop() {
            self.complete(index);
        }
        if before / 1000 != self.done / 1000 {
            let all = self.requests.len();
            pr_info!("{} of {all} requests are done\n", self.done);
        }
        while self.batch.len() < BATCH && self.next < self.requests.len() {
            self.start(self.next, State::Queued);
            self.next += 1;
        }
        !self.batch.is_empty()
    }

    /// Looks at every request after the last one was completed. Whether all is well.
    fn verify(&self) -> bool {
        let requests = self.requests.len() as u64;
        let (mut good, mut again, mut bad) = (0, 0u64, 0);
        for (place, id) in self.requests.iter().zip(0..) {
            let mut wrong = |why| {
                bad += 1;
                if bad <= NAMED {
                    pr_err!("request {id}: {why}\n");
                }
            };
            let judged = match place {
                None => Err("it is missing"),
                Some(request) if request.id != id => Err("it is another one"),
                Some(request) => request.judge(requests),
            };
            match judged {
                Ok(status) if status.state == State::Done => {
                    good += 1;
                    again += u64::from(status.attempts > 1);
                }
                Ok(_) => wrong("it is not done"),
                Err(why) => wrong(why),
            }
        }
        pr_info!(
            "{good} of {requests} requests are complete, each once: {} before this kernel, {} in it; \
             {again} took several attempts\n",
            self.done_before,
            self.done.saturating_sub(self.done_before)
        );
        good == requests && self.done == requests && self.slab.count() == requests
    }
}

/// The device: a work item that comes back until all is done.
#[pin_data]
struct Device {
    /// Until all is done.
    #[pin]
    table: Mutex<Option<Table>>,
    #[pin]
    work: DelayedWork<Device>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Device { self.work }
}

impl Device {
    fn new(table: Table) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                table <- new_mutex!(Some(table)),
                work <- new_delayed_work!("liveupdate_ring"),
            }),
            GFP_KERNEL,
        )
    }

    /// Has the device finish its batch later.
    fn later(self: Arc<Self>) {
        let delay = msecs_to_jiffies(module_parameters::milliseconds.value());
        let _ = workqueue::system_long().enqueue_delayed(self, delay);
    }
}

impl WorkItem for Device {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut table = this.table.lock();
        match (*table).as_mut().map(Table::work) {
            Some(true) => {
                drop(table);
                this.later();
            }
            // Dropped, the table is free; if something is wrong with it, it stays.
            Some(false) => drop(table.take_if(|table| table.verify())),
            None => {}
        }
    }
}

/// Built in only: work that was enqueued cannot be taken back, and so the module not be unloaded.
struct RingModule {
    _device: Option<Arc<Device>>,
}

impl kernel::Module for RingModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let requests = module_parameters::requests.value();
        if requests == 0 {
            return Ok(Self { _device: None });
        }
        if requests > MOST {
            pr_err!("{requests} requests are too many; {MOST} are allowed\n");
            return Err(EINVAL);
        }
        let table = match Slab::attach(NAME) {
            Ok(slab) => Table::resume(slab, requests)?,
            Err(ENOENT) => Table::new(requests)?,
            // They are still there, and whoever loads the module again may have them.
            Err(ENOMEM) => return Err(ENOMEM),
            Err(err) => {
                pr_err!("the requests of the previous kernel are lost: {err:?}\n");
                Table::new(requests)?
            }
        };
        let device = Device::new(table)?;
        device.clone().later();
        Ok(Self {
            _device: Some(device),
        })
    }
}

#[cfg(CONFIG_KUNIT)]
mod liveupdate_ring_tests;
