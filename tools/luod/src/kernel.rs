// SPDX-License-Identifier: GPL-2.0
//! The real device: `/dev/liveupdate`, sysfs, and a file in /run.

use crate::catalogue::MAX_BYTES;
use crate::device::{Device, DeviceError};
use crate::store;
use liveupdate_uapi::{CreateSessionError, Device as LiveUpdate, OpenError, RetrieveSessionError};
use rustix::fs::{fcntl_add_seals, memfd_create, MemfdFlags, SealFlags};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tracing::warn;

/// luod's own session.
const RECORD: &str = "luod-internal";
/// The token of the record in it.
const TOKEN: u64 = 0;
const SESSIONS: &str = "/sys/kernel/liveupdate/sessions";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What this machine offers.
#[derive(Debug)]
pub struct Kernel {
    /// What has arrived and is not finished, after the number of this boot.
    note: PathBuf,
}

impl Kernel {
    /// With the folder that luod's files go to.
    pub fn new(folder: &Path) -> Self {
        Self {
            note: folder.join("record"),
        }
    }
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
        let record = session.retrieve(TOKEN).map_err(other);
        let record = record.and_then(|fd| content(fd).map_err(other));
        match &record {
            Ok(record) => self.note(record),
            Err(error) => warn!("the record that arrived is lost: {error}"),
        }
        if let Err(error) = session.finish() {
            warn!("the session of the record: {error}");
        }
        record.map(Some).map_err(|_| DeviceError::Damaged)
    }

    fn arrived(&mut self) -> Option<Vec<String>> {
        let text = fs::read_to_string(SESSIONS).ok()?;
        let waits = |line: &str| {
            // SIDE STATE FILES RETRIEVED BYTES NAME
            let mut fields = line.splitn(6, ' ');
            let side = fields.next()?;
            let state = fields.next()?;
            let name = fields.nth(3)?;
            (side == "incoming" && state != "finished").then(|| name.to_owned())
        };
        Some(text.lines().filter_map(waits).collect())
    }

    fn note(&mut self, record: &[u8]) {
        let write = || {
            let mut text = fs::read(BOOT_ID)?;
            text.extend_from_slice(record);
            let fresh = self.note.with_extension("new");
            fs::write(&fresh, text)?;
            fs::rename(&fresh, &self.note)
        };
        if let Err(error) = write() {
            warn!("cannot write {}: {error}", self.note.display());
        }
    }

    fn noted(&mut self) -> Option<Vec<u8>> {
        let boot = fs::read(BOOT_ID).ok()?;
        let file = File::open(&self.note).ok()?;
        let mut text = Vec::new();
        file.take(2 * MAX_BYTES as u64)
            .read_to_end(&mut text)
            .ok()?;
        text.strip_prefix(boot.as_slice()).map(<[u8]>::to_vec)
    }

    fn store(&mut self, name: &str, session: &Self::Session) {
        store::put(name, session);
    }

    fn unstore(&mut self, name: &str) {
        store::remove(name);
    }
}
