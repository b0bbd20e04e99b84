// SPDX-License-Identifier: GPL-2.0

//! Sessions that arrived. The list is read once, at boot; a session's files are read when it is
//! retrieved. What is wrong with one session costs that one: it stays where it is, out of reach and
//! out of use.

use core::sync::atomic::{AtomicU64, Ordering};

use super::drivers::{Driver, Drivers};
use super::flb;
use super::format::{FileSer, SessionSer};
use super::ids::{Claim, Ids};
use super::text::{Compatible, Name};
use crate::kho::addr::PhysAddr;
use crate::kho::block_chain::Chain;
use crate::sys::alloc::{Arc, KVVec, GFP_KERNEL};
use crate::sys::driver::{file_bytes, File};
use crate::sys::error::{
    Error, Result, EBADMSG, EBUSY, EINVAL, ENODEV, ENOENT, ENOMEM, EPROBE_DEFER,
};
use crate::sys::lock::{locked, Locked};
use crate::sys::log;

/// What has become of a file.
enum Status {
    /// Nobody has asked for it.
    Waiting,
    /// Given out; this reference, and that nobody else preserves the file, are kept until it is
    /// finished.
    Retrieved { file: File, _claim: Option<Claim> },
    /// Its handler could not restore it, and will not be asked again.
    Lost(Error),
}

/// What has become of a file, as its handler is told when it finishes.
pub(crate) enum Outcome {
    NotRetrieved,
    Retrieved(File),
    Failed(Error),
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

/// What has become of a session.
enum State {
    /// Its files have not been read.
    Unread,
    /// Nobody has it open; its files have been read.
    Held(Files),
    /// Somebody has it open.
    Open(Files),
    /// Closed, and finished.
    Gone,
    /// Cannot be read.
    Damaged(Error),
}

/// The files of a session in the order they were preserved, and where each token is among them.
struct Files {
    list: KVVec<Arrived>,
    tokens: KVVec<(u64, usize)>,
}

/// A session that arrived.
pub(crate) struct Session {
    pub(crate) name: Name,
    /// Its place in the previous kernel's list, from 0.
    pub(crate) number: u64,
    record: SessionSer,
    state: Locked<State>,
    /// For those who look without waiting for the lock.
    pub(crate) shown: Shown,
}

/// What a session shows of itself.
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

/// All of them, sorted by name.
pub(crate) struct Sessions {
    list: KVVec<Arc<Session>>,
    /// Whether the previous kernel's list could not be read to its end.
    damaged: bool,
}

impl Sessions {
    /// Nothing arrived.
    pub(crate) const fn none() -> Self {
        Self {
            list: KVVec::new(),
            damaged: false,
        }
    }

    /// Something arrived that cannot be read.
    pub(crate) const fn lost() -> Self {
        Self {
            list: KVVec::new(),
            damaged: true,
        }
    }

    /// Reads the list that begins at `head`. `trouble` is told of each fault.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing has changed then.
    pub(crate) fn read(
        head: PhysAddr,
        mut trouble: impl FnMut(core::fmt::Arguments<'_>),
    ) -> Result<Self> {
        let chain = Chain::claim::<SessionSer>(head)?;
        let mut list = KVVec::new();
        let mut damaged = false;
        for (number, record) in chain.records::<SessionSer>().enumerate() {
            let Some(name) = Name::new(&record.name) else {
                damaged = true;
                trouble(log::fmt!(
                    "session number {number} has no proper name; its files are kept out of use"
                ));
                continue;
            };
            list.push(Session::new(name, number as u64, record)?, GFP_KERNEL)?;
        }
        list.sort_unstable_by_key(|session: &Arc<Session>| (session.name, session.number));
        drop_second(&mut list, |session| {
            damaged = true;
            trouble(log::fmt!(
                "session {}: there is another one of that name; the second is kept out of use",
                session.name
            ));
        });
        match chain.fault {
            Some(fault) => {
                damaged = true;
                trouble(log::fmt!(
                    "the list of sessions is damaged after {} of them: {fault}",
                    list.len()
                ));
            }
            None if damaged => {}
            None => chain.release(),
        }
        Ok(Self { list, damaged })
    }

    /// # Errors
    ///
    /// [`ENOENT`] if there is none of that name, [`EBADMSG`] if there may have been one.
    pub(crate) fn find(&self, name: &Name) -> Result<Arc<Session>> {
        match self.list.binary_search_by(|session| session.name.cmp(name)) {
            Ok(at) => Ok(self.list.get(at).ok_or(ENOENT)?.clone()),
            Err(_) if self.damaged => Err(EBADMSG),
            Err(_) => Err(ENOENT),
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

/// Keeps the first session of each name in a sorted list, and tells of the others.
fn drop_second(list: &mut KVVec<Arc<Session>>, mut dropped: impl FnMut(&Session)) {
    let mut last: Option<Name> = None;
    list.retain(|session| {
        let again = last == Some(session.name);
        if again {
            dropped(session);
        }
        last = Some(session.name);
        !again
    });
}

impl Session {
    fn new(name: Name, number: u64, record: SessionSer) -> Result<Arc<Self>> {
        let session = Self {
            name,
            number,
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
        let files = match core::mem::replace(&mut *state, State::Gone) {
            State::Held(files) => Ok(files),
            State::Unread => self.read(trouble),
            State::Damaged(err) => Err(err),
            State::Gone => return Err(ENOENT),
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
            Err(ENOMEM) => {
                *state = State::Unread;
                Err(ENOMEM)
            }
            Err(err) => {
                *state = State::Damaged(err);
                self.show(DAMAGED);
                Err(err)
            }
        }
    }

    /// Undoes [`Self::open`] for a user who did not get it.
    pub(crate) fn unopen(&self) {
        let mut state = self.state.lock();
        if let State::Open(files) = core::mem::replace(&mut *state, State::Gone) {
            *state = State::Held(files);
            self.show(WAITING);
        }
    }

    /// Reads the files.
    fn read(&self, mut trouble: impl FnMut(core::fmt::Arguments<'_>)) -> Result<Files> {
        let head = PhysAddr::new(self.record.files);
        let chain = Chain::claim::<FileSer>(head)?;
        let mut files = Files {
            list: KVVec::new(),
            tokens: KVVec::new(),
        };
        let mut wrong = |why: core::fmt::Arguments<'_>| {
            trouble(log::fmt!(
                "session {} is damaged, and is kept out of use: {why}",
                self.name
            ));
            EBADMSG
        };
        if let Some(fault) = chain.fault {
            return Err(wrong(log::fmt!("{fault}")));
        }
        for record in chain.records::<FileSer>() {
            let Some(compatible) = Compatible::new(&record.compatible) else {
                return Err(wrong(log::fmt!(
                    "the file with token {:#x} has no proper compatible string",
                    record.token
                )));
            };
            files
                .tokens
                .push((record.token, files.list.len()), GFP_KERNEL)?;
            let arrived = Arrived {
                token: record.token,
                compatible,
                data: record.data,
                status: Status::Waiting,
                driver: None,
            };
            files.list.push(arrived, GFP_KERNEL)?;
        }
        if files.list.len() as u64 != self.record.count {
            return Err(wrong(log::fmt!(
                "{} files arrived, there should be {}",
                files.list.len(),
                self.record.count
            )));
        }
        files.tokens.sort_unstable();
        let mut pairs = files.tokens.iter().zip(files.tokens.iter().skip(1));
        if let Some(((token, _), _)) = pairs.find(|((a, _), (b, _))| a == b) {
            return Err(wrong(log::fmt!("token {token:#x} stands for two files")));
        }
        chain.release();
        Ok(files)
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
        let at = files
            .tokens
            .binary_search_by_key(&token, |(token, _)| *token);
        let at = at.ok().and_then(|at| files.tokens.get(at));
        let at = at.ok_or(ENOENT)?.1;
        let arrived = files.list.get_mut(at).ok_or(ENOENT)?;
        match &arrived.status {
            Status::Retrieved { file, .. } => return Ok(file.clone()),
            Status::Lost(err) => return Err(*err),
            Status::Waiting => {}
        }
        let data = arrived.data;
        let driver = arrived.driver(drivers).inspect_err(|_| {
            log::pr_warn!(
                "luo: session {}: there is no handler for the file with token {token:#x}\n",
                self.name
            )
        })?;
        match driver.ops.retrieve(data) {
            Ok(file) => {
                // Two owners of one file would be a bug of its handler.
                let claim = Claim::new(ids, driver.ops.id(&file)).ok();
                self.shown.retrieved.fetch_add(1, Ordering::Relaxed);
                let bytes = file_bytes(&file);
                self.shown.bytes.fetch_add(bytes, Ordering::Relaxed);
                arrived.status = Status::Retrieved {
                    file: file.clone(),
                    _claim: claim,
                };
                Ok(file)
            }
            // The handler's word for: nothing was consumed, there was no memory.
            Err(EPROBE_DEFER) => Err(ENOMEM),
            Err(err) => {
                arrived.status = Status::Lost(err);
                Err(err)
            }
        }
    }

    /// Lets go of all files; those never retrieved are given up by their handlers.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if a handler cannot finish yet; nothing has changed then.
    pub(crate) fn finish(&self, drivers: &Locked<Drivers>, flbs: flb::Table<'_>) -> Result {
        let mut state = self.state.lock();
        match &mut *state {
            State::Open(files) => self.finish_files(files, drivers, flbs),
            _ => Err(EINVAL),
        }
    }

    /// The user who had it open is gone: finishes it, or, if that cannot be, keeps it to be
    /// retrieved again.
    pub(crate) fn close(&self, drivers: &Locked<Drivers>, flbs: flb::Table<'_>) {
        let mut state = self.state.lock();
        let State::Open(mut files) = core::mem::replace(&mut *state, State::Gone) else {
            return;
        };
        if self.finish_files(&mut files, drivers, flbs).is_ok() {
            self.show(FINISHED);
        } else {
            log::pr_warn!(
                "luo: session {} was closed but cannot be finished yet; retrieve it again\n",
                self.name
            );
            *state = State::Held(files);
            self.show(WAITING);
        }
    }

    fn finish_files(
        &self,
        files: &mut Files,
        drivers: &Locked<Drivers>,
        flbs: flb::Table<'_>,
    ) -> Result {
        for arrived in files.list.iter_mut() {
            let (data, outcome) = (arrived.data, arrived.outcome());
            match arrived.driver(drivers) {
                Ok(driver) if !driver.ops.can_finish(data, &outcome) => return Err(EBUSY),
                Ok(_) => {}
                Err(ENOMEM) => return Err(ENOMEM),
                Err(_) => {}
            }
        }
        while let Some(mut arrived) = files.list.pop() {
            let outcome = arrived.outcome();
            let data = arrived.data;
            match &mut arrived.driver {
                Some(driver) => {
                    driver.ops.finish(data, &outcome);
                    while let Some((flb, _owner)) = driver.flbs.pop() {
                        // Its record arrived under this name, if it did.
                        if let Some(name) = flb.compatible() {
                            flb::put_incoming(flb, name, flbs);
                        }
                    }
                }
                None => log::pr_warn!(
                    "luo: session {}: there is no handler for {} to finish the file with token {:#x}; its memory stays out of use\n",
                    self.name,
                    arrived.compatible,
                    arrived.token
                ),
            }
        }
        files.tokens.clear();
        self.shown.files.store(0, Ordering::Relaxed);
        self.shown.retrieved.store(0, Ordering::Relaxed);
        self.shown.bytes.store(0, Ordering::Relaxed);
        Ok(())
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

    /// # Errors
    ///
    /// [`ENODEV`] without a handler, [`ENOMEM`].
    fn driver(&mut self, drivers: &Locked<Drivers>) -> Result<&mut Driver> {
        if self.driver.is_none() {
            let found = drivers.lock().of_format(self.compatible);
            self.driver = Some(found.map_err(|err| match err {
                ENOMEM => ENOMEM,
                _ => ENODEV,
            })?);
        }
        self.driver.as_mut().ok_or(ENODEV)
    }
}
