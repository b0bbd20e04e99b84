// SPDX-License-Identifier: GPL-2.0

//! Sessions on the way out: files are preserved in the order they are given, frozen in that order,
//! and let go of in the reverse one.

use core::sync::atomic::{AtomicU64, Ordering};

use super::drivers::{choose, of_file, Driver, Drivers, User};
use super::flb::Uses;
use super::format::{FileSer, SessionSer};
use super::formats::choice::Choice;
use super::formats::id::Id;
use super::ids::{Claim, Ids, Room};
use super::ioctl::Side;
use super::text::{Compatible, Name};
use crate::kho::addr::PhysAddr;
use crate::kho::block_set::BlockSet;
use crate::sys::alloc::{Arc, KVVec, RBTree, GFP_KERNEL};
use crate::sys::driver::{file_bytes, File, Flb, Ops, Owner, Saved};
use crate::sys::error::{Result, EEXIST, EPROTONOSUPPORT};
use crate::sys::lock::{locked, Locked};
use crate::sys::log;

/// A preserved file. Dropping it undoes that.
struct Preserved {
    token: u64,
    saved: Saved,
    ops: Ops,
    compatible: Compatible,
    format: Id,
    // Dropped in this order, after the handler has undone its part.
    user: User,
    uses: Uses,
    _claim: Claim,
    owner: Owner,
    file: File,
}

impl Drop for Preserved {
    fn drop(&mut self) {
        self.ops.unpreserve(&self.file, &self.saved);
    }
}

impl Preserved {
    /// Converts the file to the newest format that the next kernel reads. If that fails, keeps the
    /// current format, provided that the next kernel reads it.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`] if the next kernel reads no format of the file; the handler's error. The
    /// file is then unchanged.
    fn settle(&mut self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> Result {
        reads_flbs(choice, self.uses.flbs())?;
        match self.convert(drivers, choice) {
            Err(_) if self.may_stay(drivers, choice) => Ok(()),
            done => done,
        }
    }

    fn convert(&mut self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> Result {
        let driver = self.choose(drivers, choice)?;
        if driver.format == self.format {
            return Ok(());
        }
        let needed = drivers.lock().flbs_of(&driver)?;
        reads_flbs(choice, needed.iter().map(|(flb, _)| flb))?;
        let uses = Uses::new(needed)?;
        let ops = driver.ops;
        ops.convert(&self.file, &mut self.saved, &self.ops, self.format.version)?;
        self.ops = ops;
        self.compatible = driver.compatible;
        self.format = driver.format;
        self.user = driver.user();
        self.uses = uses;
        self.owner = driver.owner;
        Ok(())
    }

    /// The handler that should have it: its own one, or one that can make it of what that has kept.
    fn choose(&self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> Result<Driver> {
        choose(drivers, &self.format.name, choice, |ops| {
            *ops == self.ops || (ops.converts(&self.ops) && ops.can_preserve(&self.file))
        })
    }

    /// Whether it will be read as it is, and nobody has forbidden that.
    fn may_stay(&self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> bool {
        choice.reads(&self.format) && drivers.lock().enabled(&self.format) != Some(false)
    }

    /// Whether it will be read, as it is or in another version.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`] if not.
    fn check(&self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> Result {
        reads_flbs(choice, self.uses.flbs())?;
        if self.may_stay(drivers, choice) {
            return Ok(());
        }
        self.choose(drivers, choice).map(|_| ())
    }
}

/// Whether FLBs will be read.
///
/// # Errors
///
/// [`EPROTONOSUPPORT`] if not.
fn reads_flbs<'a>(choice: &Choice<'_>, flbs: impl Iterator<Item = &'a Flb>) -> Result {
    let mut names = flbs.filter_map(Flb::compatible);
    match names.all(|name| choice.reads(&Id::of(&name))) {
        true => Ok(()),
        false => Err(EPROTONOSUPPORT),
    }
}

/// The data under a session's lock.
struct Files {
    list: KVVec<Preserved>,
    tokens: RBTree<u64, ()>,
    blocks: BlockSet<FileSer>,
}

/// A session that will be handed over.
pub(crate) struct Session {
    pub(crate) name: Name,
    /// Sessions are counted from 1 in the order they are made.
    pub(crate) number: u64,
    files: Locked<Files>,
    /// For those who look without waiting for the lock.
    pub(crate) shown: Shown,
}

/// The numbers of a session that sysfs shows.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) files: AtomicU64,
    /// Sizes of the files when they were preserved.
    pub(crate) bytes: AtomicU64,
}

/// All of them.
pub(crate) struct Sessions {
    by_name: RBTree<Name, u64>,
    by_number: RBTree<u64, Arc<Session>>,
    count: usize,
    last: u64,
    blocks: BlockSet<SessionSer>,
}

impl Session {
    /// Preserves a file under a token. `file` is asked for once the token is known to be free.
    ///
    /// # Errors
    ///
    /// [`EEXIST`] for a token in use, `ENOENT` without a handler, [`EPROTONOSUPPORT`] if whoever
    /// boots next would not read it, `EBUSY` for a file that is preserved already, `ENOSPC` when
    /// the session is full, `ENOMEM`, what `file` and the handler say. Nothing has changed then.
    pub(crate) fn preserve(
        &self,
        token: u64,
        file: impl FnOnce() -> Result<File>,
        drivers: &Locked<Drivers>,
        choice: &Choice<'_>,
        ids: &Arc<Ids>,
    ) -> Result {
        let mut files = self.files.lock();
        if files.tokens.get(&token).is_some() {
            return Err(EEXIST);
        }
        let before = files.list.len();
        let added = files.add(token, file, drivers, choice, ids);
        match added {
            Ok(bytes) => {
                self.shown.files.fetch_add(1, Ordering::Relaxed);
                self.shown.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(_) => {
                files.tokens.remove(&token);
                files.blocks.trim(before);
            }
        }
        added.map(|_| ())
    }

    /// Gives up all files, the last first.
    pub(crate) fn clear(&self) {
        let mut files = self.files.lock();
        while let Some(file) = files.list.pop() {
            files.tokens.remove(&file.token);
        }
        files.blocks.trim(0);
        self.shown.files.store(0, Ordering::Relaxed);
        self.shown.bytes.store(0, Ordering::Relaxed);
    }

    /// Checks that the next kernel reads all files.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`] if one would not.
    fn check(&self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> Result {
        let files = self.files.lock();
        for file in files.list.iter() {
            if let Err(err) = file.check(drivers, choice) {
                log::pr_err!(
                    "luo: session {}: whoever boots next does not read the file with token {:#x} ({})\n",
                    self.name,
                    file.token,
                    file.compatible
                );
                return Err(err);
            }
        }
        Ok(())
    }

    /// Has all files written in formats that will be read.
    ///
    /// # Errors
    ///
    /// What a handler says. Files before that one are in their new formats, the others in their old
    /// ones.
    fn settle(&self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> Result {
        let mut files = self.files.lock();
        for file in files.list.iter_mut() {
            self.settle_file(file, drivers, choice)?;
        }
        Ok(())
    }

    fn settle_file(
        &self,
        file: &mut Preserved,
        drivers: &Locked<Drivers>,
        choice: &Choice<'_>,
    ) -> Result {
        file.settle(drivers, choice).inspect_err(|err| {
            log::pr_err!(
                "luo: session {}: the file with token {:#x} ({}) cannot be written so that whoever boots next reads it: {err:?}\n",
                self.name,
                file.token,
                file.compatible
            )
        })
    }

    /// Freezes all files in order and writes their records.
    ///
    /// # Errors
    ///
    /// What a handler says; the files before its file are unfrozen again then.
    fn freeze(&self, drivers: &Locked<Drivers>, choice: &Choice<'_>) -> Result<SessionSer> {
        let mut files = self.files.lock();
        let Files { list, blocks, .. } = &mut *files;
        for (index, file) in list.iter_mut().enumerate() {
            // Preserved before it was known who boots next, if it is not right yet.
            if let Err(err) = self.settle_file(file, drivers, choice) {
                unfreeze(list, index);
                return Err(err);
            }
            if let Err(err) = file.ops.freeze(&file.file, &mut file.saved) {
                log::pr_err!(
                    "luo: session {}: the file with token {:#x} ({}) cannot be frozen: {err:?}\n",
                    self.name,
                    file.token,
                    file.compatible
                );
                unfreeze(list, index);
                return Err(err);
            }
            let record = FileSer {
                compatible: *file.compatible.bytes(),
                data: file.saved.data,
                token: file.token,
            };
            blocks.write(index, &record);
        }
        let count = list.len();
        Ok(SessionSer {
            name: *self.name.bytes(),
            files: blocks.seal(count).raw(),
            count: count as u64,
        })
    }

    /// Undoes [`Self::freeze`].
    fn unfreeze(&self) {
        let mut files = self.files.lock();
        let count = files.list.len();
        unfreeze(&mut files.list, count);
    }
}

/// Unfreezes the first `count` files, the last first.
fn unfreeze(files: &mut [Preserved], count: usize) {
    for file in files.iter_mut().take(count).rev() {
        file.ops.unfreeze(&file.file, &file.saved);
    }
}

impl Files {
    /// Preserves a file; returns its size. The caller undoes what is left on failure: the token and
    /// room in the blocks.
    fn add(
        &mut self,
        token: u64,
        file: impl FnOnce() -> Result<File>,
        drivers: &Locked<Drivers>,
        choice: &Choice<'_>,
        ids: &Arc<Ids>,
    ) -> Result<u64> {
        self.blocks.reserve(self.list.len() + 1)?;
        let file = file()?;
        let name = of_file(drivers, &file)?.format.name;
        let driver = choose(drivers, &name, choice, |ops| ops.can_preserve(&file));
        let driver = driver.inspect_err(|_| {
            log::pr_err!("luo: a file is not preserved: whoever boots next reads no version of {name} that is written here\n")
        })?;
        let ops = driver.ops;
        let claim = Claim::new(ids, Room::new()?, ops.id(&file), Side::Outgoing)?;
        let needed = drivers.lock().flbs_of(&driver)?;
        reads_flbs(choice, needed.iter().map(|(flb, _)| flb))?;
        let uses = Uses::new(needed)?;
        // All that is needed, before anything is preserved.
        self.tokens.try_create_and_insert(token, (), GFP_KERNEL)?;
        self.list.reserve(1, GFP_KERNEL)?;
        let saved = ops.preserve(&file)?;
        let bytes = file_bytes(&file);
        let entry = Preserved {
            token,
            saved,
            ops,
            compatible: driver.compatible,
            format: driver.format,
            user: driver.user(),
            uses,
            _claim: claim,
            owner: driver.owner,
            file,
        };
        // There is room.
        self.list.push(entry, GFP_KERNEL)?;
        Ok(bytes)
    }
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            by_name: RBTree::new(),
            by_number: RBTree::new(),
            count: 0,
            last: 0,
            blocks: BlockSet::new(),
        }
    }

    /// An empty session.
    ///
    /// # Errors
    ///
    /// [`EEXIST`] for a name in use, `ENOSPC` for more sessions than can be handed over, `ENOMEM`.
    pub(crate) fn create(&mut self, name: Name) -> Result<Arc<Session>> {
        if self.by_name.get(&name).is_some() {
            return Err(EEXIST);
        }
        let made = self.add(name);
        if made.is_err() {
            self.by_name.remove(&name);
            self.blocks.trim(self.count);
        }
        made
    }

    fn add(&mut self, name: Name) -> Result<Arc<Session>> {
        self.blocks.reserve(self.count + 1)?;
        let number = self.last + 1;
        let files = Files {
            list: KVVec::new(),
            tokens: RBTree::new(),
            blocks: BlockSet::new(),
        };
        let session = Session {
            name,
            number,
            files: locked!(files, "luo_session")?,
            shown: Shown::default(),
        };
        let session = Arc::new(session, GFP_KERNEL)?;
        self.by_name
            .try_create_and_insert(name, number, GFP_KERNEL)?;
        self.by_number
            .try_create_and_insert(number, session.clone(), GFP_KERNEL)?;
        self.count += 1;
        self.last = number;
        Ok(session)
    }

    /// Takes a session off the list, after it was cleared.
    pub(crate) fn remove(&mut self, session: &Session) {
        self.by_name.remove(&session.name);
        if self.by_number.remove(&session.number).is_some() {
            self.count -= 1;
            self.blocks.trim(self.count);
        }
    }

    /// The first session whose number is more than `number`.
    pub(crate) fn after(&self, number: u64) -> Option<Arc<Session>> {
        let cursor = self.by_number.cursor_lower_bound(&(number + 1))?;
        Some(cursor.current().1.clone())
    }

    /// The session before the one with that number.
    fn before(&self, number: u64) -> Option<Arc<Session>> {
        let cursor = self.by_number.cursor_lower_bound(&number)?;
        Some(cursor.peek_prev()?.1.clone())
    }
}

/// Checks that the next kernel reads all files, and then converts them.
///
/// # Errors
///
/// [`EPROTONOSUPPORT`] if a file would not be read; nothing has changed then. What a handler says;
/// each file is in its new format or its old one then, and as good as before.
pub(crate) fn settle(
    sessions: &Locked<Sessions>,
    drivers: &Locked<Drivers>,
    choice: &Choice<'_>,
) -> Result {
    each(sessions, |session| session.check(drivers, choice))?;
    each(sessions, |session| session.settle(drivers, choice))
}

/// Whether any file is preserved.
pub(crate) fn any(sessions: &Locked<Sessions>) -> bool {
    let look = |session: &Session| match session.shown.files.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ => Err(EEXIST),
    };
    each(sessions, look).is_err()
}

/// Calls `f` for one session after the other, without their list's lock, until it fails.
fn each(sessions: &Locked<Sessions>, mut f: impl FnMut(&Session) -> Result) -> Result {
    let mut number = 0;
    loop {
        let Some(session) = sessions.lock().after(number) else {
            return Ok(());
        };
        number = session.number;
        f(&session)?;
    }
}

/// Freezes all sessions and writes their records; returns the first block, or zero. Nobody may make
/// or close sessions meanwhile, but a reader of the list need not wait: its lock is not held while
/// handlers work.
///
/// # Errors
///
/// What a handler says; everything is unfrozen again then.
pub(crate) fn serialise(
    sessions: &Locked<Sessions>,
    drivers: &Locked<Drivers>,
    choice: &Choice<'_>,
) -> Result<PhysAddr> {
    let (mut number, mut index) = (0, 0);
    loop {
        let Some(session) = sessions.lock().after(number) else {
            break;
        };
        number = session.number;
        match session.freeze(drivers, choice) {
            Ok(record) => sessions.lock().blocks.write(index, &record),
            Err(err) => {
                unfreeze_before(sessions, number);
                return Err(err);
            }
        }
        index += 1;
    }
    Ok(sessions.lock().blocks.seal(index))
}

/// Unfreezes the sessions before the one with that number, the last first.
fn unfreeze_before(sessions: &Locked<Sessions>, mut number: u64) {
    loop {
        let Some(session) = sessions.lock().before(number) else {
            return;
        };
        number = session.number;
        session.unfreeze();
    }
}
