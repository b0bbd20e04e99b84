// SPDX-License-Identifier: GPL-2.0
//! The device: who has it open may make sessions, and retrieve those that have arrived.

use crate::error::{CreateSessionError, OpenError, RetrieveSessionError};
use crate::name::Name;
use crate::raw;
use crate::session::{RetrievedSession, Session};
use rustix::fs::{open, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `/dev/liveupdate`, opened. Nobody else can open it until this is dropped, and every duplicate of
/// it closed.
#[derive(Debug)]
pub struct Device(OwnedFd);

impl Device {
    /// Where the device is.
    pub const PATH: &'static str = "/dev/liveupdate";

    /// Opens the device. The first time in a kernel, this reads what the previous kernel handed
    /// over.
    ///
    /// # Errors
    ///
    /// [`OpenError::Absent`] where there is no live update, [`OpenError::Busy`] when somebody has
    /// the device.
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self(open(
            Self::PATH,
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )?))
    }

    /// Makes a session that will go to the next kernel.
    ///
    /// # Errors
    ///
    /// [`CreateSessionError::Exists`] when an outgoing session has this name.
    pub fn create_session(&self, name: impl AsRef<[u8]>) -> Result<Session, CreateSessionError> {
        let name = Name::new(name)?;
        Ok(raw::create_session(self, name.padded())?.into())
    }

    /// Gets a session that the previous kernel handed over. This works once for each.
    ///
    /// # Errors
    ///
    /// [`RetrieveSessionError::Unknown`] when none of this name has arrived,
    /// [`RetrieveSessionError::AlreadyRetrieved`] when somebody has it.
    pub fn retrieve_session(
        &self,
        name: impl AsRef<[u8]>,
    ) -> Result<RetrievedSession, RetrieveSessionError> {
        let name = Name::new(name)?;
        Ok(raw::retrieve_session(self, name.padded())?.into())
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Device> for OwnedFd {
    fn from(device: Device) -> Self {
        device.0
    }
}

/// For a device that somebody else opened.
impl From<OwnedFd> for Device {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}
