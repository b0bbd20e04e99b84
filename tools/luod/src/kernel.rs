// SPDX-License-Identifier: GPL-2.0
//! The real device: `/dev/liveupdate`, sysfs, and a file in /run.

use crate::catalogue::MAX_BYTES;
use crate::device::{Device, DeviceError, RECORD};
use crate::kept::{Boot, Kept};
use crate::note::{read_note, write_note};
use crate::store;
use liveupdate_uapi::raw;
use liveupdate_uapi::{CreateSessionError, Device as LiveUpdate, OpenError, RetrieveSessionError};
use rustix::fs::{fcntl_add_seals, memfd_create, MemfdFlags, SealFlags};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tracing::warn;

/// The token of the record in it.
const TOKEN: u64 = 0;
const SESSIONS: &str = "/sys/kernel/liveupdate/sessions";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What this machine offers.
#[derive(Debug)]
pub struct Kernel {
    /// What has arrived and is not finished, after the number of this boot.
    note: PathBuf,
    boot: Boot,
    /// The previous kernel's record, while it stands nowhere else.
    unnoted: Option<Unnoted>,
}

#[derive(Debug)]
struct Unnoted {
    record: Vec<u8>,
    /// Its name in the service manager's store.
    name: String,
    session: Rc<OwnedFd>,
}

/// Which boot this is.
pub fn this_boot() -> Boot {
    Boot::new(&fs::read_to_string(BOOT_ID).unwrap_or_default())
}

impl Kernel {
    /// With the folder that luod's files go to.
    pub fn new(folder: &Path, boot: Boot) -> Self {
        Self {
            note: folder.join("record"),
            boot,
            unnoted: None,
        }
    }

    /// Reads a record, and notes it down. Its session is finished when that is done, and not
    /// before.
    fn take_record(&mut self, name: String, session: Rc<OwnedFd>) -> Result<Vec<u8>, DeviceError> {
        let fd = raw::retrieve_fd(&session, TOKEN).map_err(std::io::Error::from);
        let record = fd.and_then(content);
        let read = record.as_ref().ok().cloned();
        let record = record.map_err(|error| {
            warn!("the record that arrived cannot be read: {error}");
            DeviceError::Damaged
        });
        self.unnoted = Some(Unnoted {
            record: read.unwrap_or_default(),
            name,
            session,
        });
        match &record {
            Ok(record) => self.note(record),
            Err(_) => self.finish_record(),
        }
        if self.unnoted.is_some() {
            warn!("the session of the record stays open, as nothing else has what it says");
        }
        record
    }

    /// The record stands elsewhere, or cannot be read: its session is of no use any more.
    fn finish_record(&mut self) {
        let Some(Unnoted { name, session, .. }) = self.unnoted.take() else {
            return;
        };
        if let Err(error) = raw::finish(&session) {
            warn!("the session of the record: {error}");
        }
        store::remove(&name);
    }
}

/// A line of the kernel's list: whether it has arrived, and the name, unless it is finished.
fn listed(line: &str) -> Option<(bool, String)> {
    // SIDE STATE FILES RETRIEVED BYTES NAME
    let mut fields = line.splitn(6, ' ');
    let side = fields.next()?;
    let state = fields.next()?;
    let name = fields.nth(3)?;
    (state != "finished").then(|| (side == "incoming", name.to_owned()))
}

impl From<OpenError> for DeviceError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Absent => Self::Absent,
            OpenError::Busy => Self::Busy,
            OpenError::Unreadable => Self::Damaged,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<CreateSessionError> for DeviceError {
    fn from(error: CreateSessionError) -> Self {
        match error {
            CreateSessionError::Exists => Self::Exists,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<RetrieveSessionError> for DeviceError {
    fn from(error: RetrieveSessionError) -> Self {
        match error {
            RetrieveSessionError::Unknown => Self::Unknown,
            RetrieveSessionError::Damaged => Self::Damaged,
            RetrieveSessionError::AlreadyRetrieved => Self::Taken,
            other => Self::Other(other.to_string()),
        }
    }
}

fn other(error: impl std::fmt::Display) -> DeviceError {
    DeviceError::Other(error.to_string())
}

/// A memfd that nobody can change.
fn sealed(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let memfd = memfd_create(RECORD, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// The content of a retrieved file, from its beginning, up to what a record can have.
fn content(fd: OwnedFd) -> std::io::Result<Vec<u8>> {
    use std::io::Seek;
    let mut file = File::from(fd);
    // The position lives through the update too.
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Device for Kernel {
    type Session = Rc<OwnedFd>;

    fn create(&mut self, name: &str) -> Result<Self::Session, DeviceError> {
        let session = LiveUpdate::open()?.create_session(name)?;
        Ok(Rc::new(session.into()))
    }

    fn retrieve(&mut self, name: &str) -> Result<Self::Session, DeviceError> {
        let session = LiveUpdate::open()?.retrieve_session(name)?;
        Ok(Rc::new(session.into()))
    }

    fn preserve_record(&mut self, record: &[u8]) -> Result<Self::Session, DeviceError> {
        let memfd = sealed(record).map_err(other)?;
        let session = LiveUpdate::open()?.create_session(RECORD)?;
        session.preserve(memfd, TOKEN).map_err(other)?;
        Ok(Rc::new(session.into()))
    }

    fn retrieve_record(&mut self) -> Result<Option<Vec<u8>>, DeviceError> {
        let session = match LiveUpdate::open()?.retrieve_session(RECORD) {
            Err(RetrieveSessionError::Unknown) => return Ok(None),
            other => other?,
        };
        let name = Kept::OldRecord.name(&self.boot);
        let session: Rc<OwnedFd> = Rc::new(session.into());
        // Until it is noted down, the store is the only place that outlives this process.
        store::put(&name, &session);
        self.take_record(name, session).map(Some)
    }

    fn adopt_record(&mut self, name: &str, session: Self::Session) {
        if let Err(error) = self.take_record(name.to_owned(), session) {
            warn!("the record that the service manager kept is lost: {error}");
        }
    }

    fn sides(&mut self) -> Option<Vec<(bool, String)>> {
        let text = fs::read_to_string(SESSIONS).ok()?;
        Some(text.lines().filter_map(listed).collect())
    }

    fn note(&mut self, record: &[u8]) {
        match write_note(&self.note, &self.boot, record) {
            Ok(()) => self.finish_record(),
            Err(error) => warn!("cannot write {}: {error}", self.note.display()),
        }
    }

    fn noted(&mut self) -> Option<Vec<u8>> {
        if let Some(Unnoted { record, .. }) = &self.unnoted {
            return Some(record.clone());
        }
        read_note(&self.note, &self.boot)
    }

    fn store(&mut self, name: &str, session: &Self::Session) {
        store::put(name, session);
    }

    fn unstore(&mut self, name: &str) {
        store::remove(name);
    }
}
