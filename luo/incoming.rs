// SPDX-License-Identifier: GPL-2.0

//! Sessions that arrived. The list is read once, at boot; a session's files are read when it is
//! retrieved. What is wrong with one session costs that one: it stays where it is, out of reach and
//! out of use.
//!
//! The pages of all this are freed after the last session is closed, if nothing was damaged: until
//! then each may turn out to be the memory of a file that a wrong link has led into.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::drivers::{Driver, Drivers};
use super::flb;
use super::format::{FileSer, SessionSer};
use super::ids::{Claim, Ids, Room};
use super::ioctl::Side;
use super::text::{Compatible, Name};
use crate::kho::addr::PhysAddr;
use crate::kho::block_chain::{Blocks, Chain};
use crate::sys::alloc::{Arc, KVVec, RBTree, GFP_KERNEL};
pub(crate) use crate::sys::contract::Outcome;
use crate::sys::driver::{file_bytes, File};
use crate::sys::error::{Error, Result, EBADMSG, EBUSY, EINVAL, EJUKEBOX, ENODEV, ENOENT, ENOMEM};
use crate::sys::lock::{locked, Locked};
use crate::sys::log;

/// Returned by a handler's `retrieve` when memory ran out and nothing was consumed: the caller may
/// try again. A separate value is needed because C handlers that return `ENOMEM` have already
/// released the file. (`EJUKEBOX` is otherwise used by NFS only.)
pub(crate) const TRY_AGAIN: Error = EJUKEBOX;

/// The state of a file.
enum Status {
    /// Nobody has asked for it.
    Waiting,
    /// Given out; this reference, and that nobody else preserves the file, are kept until it is
    /// finished. The claim goes first: once the file is gone, its identity may be another's.
    Retrieved { _claim: Option<Claim>, file: File },
    /// Its handler could not restore it, and will not be asked again.
    Lost(Error),
}

/// A file that arrived.
struct Arrived {
    token: u64,
    compatible: Compatible,
    data: u64,
    status: Status,
    /// Its handler, once there was one.
    driver: Option<Driver>,
}

/// The state of a session.
enum State {
    /// Its files have not been read.
    Unread,
    /// There was no memory to read them. They stay claimed, so that nobody else is in the way.
    Claimed(Chain),
    /// Nobody has it open; its files have been read.
    Held(Files),
    /// Somebody has it open.
    Open(Files),
    /// Closed, and finished. What it was read from is still there.
    Gone(Blocks),
    /// Cannot be read.
    Damaged,
}

/// Why files could not be read.
enum NotRead {
    NoMemory(Chain),
    Damaged,
}

/// The files of a session in the order they were preserved, and where each token is among them.
struct Files {
    list: KVVec<Arrived>,
    tokens: RBTree<u64, usize>,
    blocks: Blocks,
}

/// A session that arrived.
pub(crate) struct Session {
    pub(crate) name: Name,
    record: SessionSer,
    state: Locked<State>,
    /// For those who look without waiting for the lock.
    pub(crate) shown: Shown,
}

/// The numbers of a session that sysfs shows.
pub(crate) struct Shown {
    /// Files not finished yet.
    pub(crate) files: AtomicU64,
    pub(crate) retrieved: AtomicU64,
    /// Sizes of the files retrieved.
    pub(crate) bytes: AtomicU64,
    /// One of the states below.
    pub(crate) state: AtomicU64,
}

/// States as they are shown.
pub(crate) const STATES: [&str; 4] = ["waiting", "open", "finished", "damaged"];
const WAITING: u64 = 0;
const OPEN: u64 = 1;
const FINISHED: u64 = 2;
const DAMAGED: u64 = 3;

/// Faults of the list of sessions that are said one by one; a list of bad ones must not flood the
/// log.
const SAID: u32 = 16;

/// All of them, in the order of the previous kernel's list, and where each name is among them.
pub(crate) struct Sessions {
    list: KVVec<Arc<Session>>,
    names: RBTree<Name, usize>,
    /// Whether there may have been more than is in the list.
    damaged: bool,
    /// The pages from which the list was read.
    blocks: Option<Locked<Blocks>>,
    /// Sessions that nobody has closed.
    unclosed: AtomicUsize,
}

impl Sessions {
    /// Nothing arrived.
    pub(crate) fn none() -> Self {
        Self {
            list: KVVec::new(),
            names: RBTree::new(),
            damaged: false,
            blocks: None,
            unclosed: AtomicUsize::new(0),
        }
    }

    /// Something arrived that cannot be read.
    pub(crate) fn lost() -> Self {
        Self {
            list: KVVec::new(),
            names: RBTree::new(),
            damaged: true,
            blocks: None,
            unclosed: AtomicUsize::new(0),
        }
    }

    /// Reads the list that begins at `head`. `trouble` is told of each fault. `read` are pages that
    /// were read before.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing has changed then.
    pub(crate) fn read(
        head: PhysAddr,
        read: Blocks,
        mut trouble: impl FnMut(core::fmt::Arguments<'_>),
    ) -> Result<Self> {
        let chain = Chain::claim::<SessionSer>(head)?;
        let mut list = KVVec::new();
        let mut names = RBTree::new();
        let mut faults = 0;
        let mut trouble = |what: core::fmt::Arguments<'_>| {
            faults += 1;
            match faults {
                ..=SAID => trouble(what),
                _ if faults == SAID + 1 => trouble(log::fmt!("more sessions are damaged")),
                _ => {}
            }
        };
        for (number, record) in chain.records::<SessionSer>().enumerate() {
            let Some(name) = Name::new(&record.name) else {
                trouble(log::fmt!(
                    "session number {number} has no proper name; its files are kept out of use"
                ));
                continue;
            };
            if names.get(&name).is_some() {
                trouble(log::fmt!(
                    "session {name}: there is another one of that name; the second is kept out of use"
                ));
                continue;
            }
            names.try_create_and_insert(name, list.len(), GFP_KERNEL)?;
            list.push(Session::new(name, record)?, GFP_KERNEL)?;
        }
        if let Some(fault) = chain.fault {
            trouble(log::fmt!(
                "the list of sessions is damaged after {} of them: {fault}",
                list.len()
            ));
        }
        let mut blocks = chain.into_blocks();
        refuse_shared(&list, &blocks, trouble)?;
        for page in read.iter() {
            blocks.add(page)?;
        }
        Ok(Self {
            unclosed: AtomicUsize::new(list.len()),
            list,
            names,
            damaged: faults > 0,
            blocks: Some(locked!(blocks, "luo_blocks")?),
        })
    }

    /// A session was closed, and will not be opened again. True for the last.
    pub(crate) fn closed(&self) -> bool {
        self.unclosed.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Frees what all was read from, if nothing was damaged. Every session is closed.
    pub(crate) fn free_blocks(&self) {
        if self.damaged {
            return;
        }
        for session in self.list.iter() {
            if let State::Gone(blocks) = &mut *session.state.lock() {
                blocks.free();
            }
        }
        if let Some(blocks) = &self.blocks {
            blocks.lock().free();
        }
    }

    /// # Errors
    ///
    /// [`ENOENT`] if there is none of that name, [`EBADMSG`] if there may have been one.
    pub(crate) fn find(&self, name: &Name) -> Result<Arc<Session>> {
        match self.names.get(name).and_then(|at| self.list.get(*at)) {
            Some(session) => Ok(session.clone()),
            None if self.damaged => Err(EBADMSG),
            None => Err(ENOENT),
        }
    }

    pub(crate) fn list(&self) -> &[Arc<Session>] {
        &self.list
    }

    /// Sessions that nobody has finished.
    pub(crate) fn unfinished(&self) -> usize {
        let states = self
            .list
            .iter()
            .map(|s| s.shown.state.load(Ordering::Relaxed));
        states
            .filter(|state| matches!(*state, WAITING | OPEN))
            .count()
    }
}

/// Finds files that are listed by two sessions, or that are where the list itself is. Nobody knows
/// whose they are: who had them finished might give up another one's, so the sessions are refused.
fn refuse_shared(
    list: &[Arc<Session>],
    blocks: &Blocks,
    mut trouble: impl FnMut(core::fmt::Arguments<'_>),
) -> Result {
    // Session by the first block of its files.
    let mut heads: RBTree<u64, usize> = RBTree::new();
    for (index, session) in list.iter().enumerate() {
        let at = session.record.files;
        if at == 0 {
            continue;
        }
        let Some(first) = heads.get(&at).and_then(|first| list.get(*first)) else {
            heads.try_create_and_insert(at, index, GFP_KERNEL)?;
            continue;
        };
        for one in [first, session] {
            *one.state.lock() = State::Damaged;
            one.show(DAMAGED);
            trouble(log::fmt!(
                "session {} is damaged, and is kept out of use: another one has its files at {at:#x}",
                one.name
            ));
        }
    }
    for block in blocks.iter() {
        let at = block.phys().raw();
        if heads.get(&at).is_some() {
            trouble(log::fmt!(
                "the list of sessions and one of them both have a block at {at:#x}"
            ));
        }
    }
    Ok(())
}

impl Session {
    fn new(name: Name, record: SessionSer) -> Result<Arc<Self>> {
        let session = Self {
            name,
            record,
            state: locked!(State::Unread, "luo_arrived")?,
            shown: Shown {
                files: AtomicU64::new(record.count),
                retrieved: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                state: AtomicU64::new(WAITING),
            },
        };
        Ok(Arc::new(session, GFP_KERNEL)?)
    }

    fn show(&self, state: u64) {
        self.shown.state.store(state, Ordering::Relaxed);
    }

    /// Opens it for one user.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if somebody has it open, [`ENOENT`] if it is finished, [`EBADMSG`] if it is
    /// damaged, `ENOMEM`, after which it can be tried again.
    pub(crate) fn open(&self, trouble: impl FnMut(core::fmt::Arguments<'_>)) -> Result {
        let mut state = self.state.lock();
        let files = match core::mem::replace(&mut *state, State::Unread) {
            State::Held(files) => Ok(files),
            State::Unread => match Chain::claim::<FileSer>(PhysAddr::new(self.record.files)) {
                Ok(chain) => self.read(chain, trouble),
                Err(err) => {
                    *state = State::Unread;
                    return Err(err);
                }
            },
            State::Claimed(chain) => self.read(chain, trouble),
            State::Damaged => Err(NotRead::Damaged),
            State::Gone(blocks) => {
                *state = State::Gone(blocks);
                return Err(ENOENT);
            }
            State::Open(files) => {
                *state = State::Open(files);
                return Err(EINVAL);
            }
        };
        match files {
            Ok(files) => {
                *state = State::Open(files);
                self.show(OPEN);
                Ok(())
            }
            Err(NotRead::NoMemory(chain)) => {
                *state = State::Claimed(chain);
                Err(ENOMEM)
            }
            Err(NotRead::Damaged) => {
                *state = State::Damaged;
                self.show(DAMAGED);
                Err(EBADMSG)
            }
        }
    }

    /// Undoes [`Self::open`] for a user who did not get it.
    pub(crate) fn unopen(&self) {
        let mut state = self.state.lock();
        match core::mem::replace(&mut *state, State::Unread) {
            State::Open(files) => {
                *state = State::Held(files);
                self.show(WAITING);
            }
            other => *state = other,
        }
    }

    /// Reads the files in the blocks of a chain.
    fn read(
        &self,
        chain: Chain,
        mut trouble: impl FnMut(core::fmt::Arguments<'_>),
    ) -> Result<Files, NotRead> {
        match Files::read(&chain, self.record.count, |why| {
            trouble(log::fmt!(
                "session {} is damaged, and is kept out of use: {why}",
                self.name
            ))
        }) {
            Ok(mut files) => {
                files.blocks = chain.into_blocks();
                Ok(files)
            }
            Err(ENOMEM) => Err(NotRead::NoMemory(chain)),
            Err(_) => Err(NotRead::Damaged),
        }
    }

    /// The file of a token; the first to ask has it restored, others get the same one.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] for an unknown token, [`ENODEV`] while the file has no handler in this kernel,
    /// [`ENOMEM`] if its handler says that it can be tried again, what the handler said otherwise,
    /// now and each time after.
    pub(crate) fn retrieve(
        &self,
        token: u64,
        drivers: &Locked<Drivers>,
        ids: &Arc<Ids>,
    ) -> Result<File> {
        let mut state = self.state.lock();
        let State::Open(files) = &mut *state else {
            return Err(EINVAL);
        };
        let at = *files.tokens.get(&token).ok_or(ENOENT)?;
        let arrived = files.list.get_mut(at).ok_or(ENOENT)?;
        match &arrived.status {
            Status::Retrieved { file, .. } => return Ok(file.clone()),
            Status::Lost(err) => return Err(*err),
            Status::Waiting => {}
        }
        let data = arrived.data;
        let Some(driver) = arrived.driver(drivers) else {
            log::pr_warn!(
                "luo: session {}: there is no handler for the file with token {token:#x}\n",
                self.name
            );
            return Err(ENODEV);
        };
        // Once the handler has restored the file, there is no way back.
        let room = Room::new()?;
        match driver.ops.retrieve(data) {
            Ok(file) => {
                let claim = Claim::new(ids, room, driver.ops.id(&file), Side::Incoming);
                if let Err(err) = &claim {
                    log::pr_warn!(
                        "luo: session {}: the file with token {token:#x} may be preserved again before it is finished: {err:?}\n",
                        self.name
                    );
                }
                self.shown.retrieved.fetch_add(1, Ordering::Relaxed);
                let bytes = file_bytes(&file);
                self.shown.bytes.fetch_add(bytes, Ordering::Relaxed);
                arrived.status = Status::Retrieved {
                    _claim: claim.ok(),
                    file: file.clone(),
                };
                Ok(file)
            }
            Err(TRY_AGAIN) => Err(ENOMEM),
            Err(err) => {
                log::pr_err!(
                    "luo: session {}: the file with token {token:#x} ({}) is lost: {err:?}\n",
                    self.name,
                    arrived.compatible
                );
                arrived.status = Status::Lost(err);
                Err(err)
            }
        }
    }

    /// Lets go of all files; those never retrieved are given up by their handlers.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if a handler cannot finish yet, [`ENODEV`] if a file has none; nothing has changed
    /// then.
    pub(crate) fn finish(&self, drivers: &Locked<Drivers>, flbs: flb::Table<'_>) -> Result {
        let mut state = self.state.lock();
        let State::Open(files) = &mut *state else {
            return Err(EINVAL);
        };
        if let Some(orphan) = files.can_finish(drivers)? {
            log::pr_warn!(
                "luo: session {}: there is no handler to finish the file with token {:#x}\n",
                self.name,
                orphan.token
            );
            return Err(ENODEV);
        }
        self.finish_files(files, drivers, flbs);
        Ok(())
    }

    /// The user who had it open is gone: finishes it, or, if that cannot be, keeps it to be
    /// retrieved again. A file that has no handler even now is given up. Returns whether it is
    /// finished.
    pub(crate) fn close(&self, drivers: &Locked<Drivers>, flbs: flb::Table<'_>) -> bool {
        let mut state = self.state.lock();
        let mut files = match core::mem::replace(&mut *state, State::Unread) {
            State::Open(files) => files,
            other => {
                *state = other;
                return false;
            }
        };
        if files.can_finish(drivers).is_ok() {
            self.finish_files(&mut files, drivers, flbs);
            *state = State::Gone(files.blocks);
            true
        } else {
            log::pr_warn!(
                "luo: session {} was closed but cannot be finished yet; retrieve it again\n",
                self.name
            );
            *state = State::Held(files);
            self.show(WAITING);
            false
        }
    }

    fn finish_files(&self, files: &mut Files, drivers: &Locked<Drivers>, flbs: flb::Table<'_>) {
        while let Some(arrived) = files.list.pop() {
            match &arrived.driver {
                Some(driver) => {
                    driver.ops.finish(arrived.data, &arrived.outcome());
                    put_flbs(driver, drivers, flbs);
                }
                None => log::pr_warn!(
                    "luo: session {}: there is no handler for {} to finish the file with token {:#x}; its memory stays out of use\n",
                    self.name,
                    arrived.compatible,
                    arrived.token
                ),
            }
        }
        files.tokens = RBTree::new();
        self.show(FINISHED);
        self.shown.files.store(0, Ordering::Relaxed);
        self.shown.retrieved.store(0, Ordering::Relaxed);
        self.shown.bytes.store(0, Ordering::Relaxed);
    }
}

/// A file of this handler is finished, and with it a user of each FLB that the handler needs.
fn put_flbs(driver: &Driver, drivers: &Locked<Drivers>, flbs: flb::Table<'_>) {
    let mut number = u64::MAX;
    loop {
        let Some(used) = drivers.lock().flb_before(driver, number) else {
            return;
        };
        number = used.number();
        flb::put_incoming(used.flb, used.compatible, flbs);
    }
}

impl Files {
    /// Asks all handlers whether they can finish. Returns a file that has none, if there is one.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if one cannot.
    fn can_finish(&mut self, drivers: &Locked<Drivers>) -> Result<Option<&Arrived>> {
        let mut orphan = None;
        for (at, arrived) in self.list.iter_mut().enumerate() {
            let (data, outcome) = (arrived.data, arrived.outcome());
            match arrived.driver(drivers) {
                Some(driver) if !driver.ops.can_finish(data, &outcome) => return Err(EBUSY),
                Some(_) => {}
                None => orphan = Some(at),
            }
        }
        Ok(orphan.and_then(|at| self.list.get(at)))
    }

    /// # Errors
    ///
    /// [`EBADMSG`] for what cannot be, after `wrong` was told, [`ENOMEM`].
    fn read(
        chain: &Chain,
        count: u64,
        mut wrong: impl FnMut(core::fmt::Arguments<'_>),
    ) -> Result<Self> {
        let mut files = Self {
            list: KVVec::new(),
            tokens: RBTree::new(),
            blocks: Blocks::none(),
        };
        if let Some(fault) = chain.fault {
            wrong(log::fmt!("{fault}"));
            return Err(EBADMSG);
        }
        for record in chain.records::<FileSer>() {
            let Some(compatible) = Compatible::new(&record.compatible) else {
                wrong(log::fmt!(
                    "the file with token {:#x} has no proper compatible string",
                    record.token
                ));
                return Err(EBADMSG);
            };
            if files.tokens.get(&record.token).is_some() {
                wrong(log::fmt!("token {:#x} stands for two files", record.token));
                return Err(EBADMSG);
            }
            let place = files.list.len();
            files
                .tokens
                .try_create_and_insert(record.token, place, GFP_KERNEL)?;
            let arrived = Arrived {
                token: record.token,
                compatible,
                data: record.data,
                status: Status::Waiting,
                driver: None,
            };
            files.list.push(arrived, GFP_KERNEL)?;
        }
        if files.list.len() as u64 != count {
            wrong(log::fmt!(
                "{} files arrived, there should be {count}",
                files.list.len()
            ));
            return Err(EBADMSG);
        }
        Ok(files)
    }
}

impl Arrived {
    fn outcome(&self) -> Outcome {
        match &self.status {
            Status::Waiting => Outcome::NotRetrieved,
            Status::Retrieved { file, .. } => Outcome::Retrieved(file.clone()),
            Status::Lost(err) => Outcome::Failed(*err),
        }
    }

    /// Its handler, looked for each time until there is one.
    fn driver(&mut self, drivers: &Locked<Drivers>) -> Option<&Driver> {
        if self.driver.is_none() {
            self.driver = drivers.lock().of_format(self.compatible);
        }
        self.driver.as_ref()
    }
}
