// SPDX-License-Identifier: GPL-2.0
//! Sessions: outgoing ones take files in, incoming ones give them out.

use crate::error::{FinishError, PreserveError, RetrieveError};
use crate::name::Name;
use crate::raw;
use rustix::io::{Errno, Result as OsResult};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A session that goes to the next kernel, if it is open when the kexec comes. Dropping it, and
/// every duplicate of its descriptor, gives up all that is preserved in it; the files are as
/// before.
#[derive(Debug)]
pub struct Session(OwnedFd);

impl Session {
    /// Preserves a file under a token. The file's descriptor may be closed then; a memfd can be
    /// written through mappings until the kexec, but no longer change its size.
    ///
    /// # Errors
    ///
    /// Nothing has changed, and the token can be used for another file.
    pub fn preserve(&self, file: impl AsFd, token: u64) -> Result<(), PreserveError> {
        Ok(raw::preserve_fd(self, file.as_fd().as_raw_fd(), token)?)
    }

    /// The session's name.
    ///
    /// # Errors
    ///
    /// The descriptor is not a session's.
    pub fn name(&self) -> OsResult<Name> {
        name_of(self)
    }
}

/// A session that has arrived from the previous kernel. Dropping it, and every duplicate of its
/// descriptor, finishes it.
#[derive(Debug)]
pub struct RetrievedSession(OwnedFd);

impl RetrievedSession {
    /// Gets the file with this token. Asking again gives another descriptor of the same file.
    ///
    /// # Errors
    ///
    /// [`RetrieveError::Unknown`] when the session has no such file. If the file itself cannot be
    /// restored, asking again does not help.
    pub fn retrieve(&self, token: u64) -> Result<OwnedFd, RetrieveError> {
        Ok(raw::retrieve_fd(self, token)?)
    }

    /// Ends the session: files that were retrieved live on, the others are freed.
    ///
    /// # Errors
    ///
    /// The session comes back with the error, as it was.
    pub fn finish(self) -> Result<(), FinishFailed> {
        raw::finish(&self).map_err(|errno| FinishFailed {
            error: errno.into(),
            session: self,
        })
    }

    /// The session's name.
    ///
    /// # Errors
    ///
    /// The descriptor is not a session's.
    pub fn name(&self) -> OsResult<Name> {
        name_of(self)
    }
}

/// A session that could not be finished.
#[derive(Debug)]
pub struct FinishFailed {
    /// Why.
    pub error: FinishError,
    /// As it was before.
    pub session: RetrievedSession,
}

impl fmt::Display for FinishFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for FinishFailed {}

fn name_of(session: impl AsFd) -> OsResult<Name> {
    Name::from_kernel(raw::get_name(session)?).ok_or(Errno::INVAL)
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for RetrievedSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Session> for OwnedFd {
    fn from(session: Session) -> Self {
        session.0
    }
}

impl From<RetrievedSession> for OwnedFd {
    fn from(session: RetrievedSession) -> Self {
        session.0
    }
}

/// For a session that somebody else has made, and sent through a socket, say.
impl From<OwnedFd> for Session {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// For a session that somebody else has retrieved, and sent through a socket, say.
impl From<OwnedFd> for RetrievedSession {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}
