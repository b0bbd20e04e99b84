// SPDX-License-Identifier: GPL-2.0
//! Errors, one type an operation: the same errno means different things in different places, so
//! each place names its own.

use rustix::io::Errno;
use std::fmt;

/// Why bytes are no session name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There is nothing.
    Empty,
    /// There are more than 63 bytes.
    TooLong,
    /// One of them is NUL.
    Nul,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a session's name cannot be empty",
            Self::TooLong => "a session's name has 63 bytes at most",
            Self::Nul => "a session's name cannot have a NUL in it",
        })
    }
}

impl std::error::Error for NameError {}

/// An enum whose variants stand for error numbers; the first number of a variant is the one that it
/// turns back into.
macro_rules! errors {
    ($(
        $(#[$about:meta])*
        $name:ident: $what:literal {
            $( $(#[doc = $doc:literal])* $variant:ident = $first:ident $(| $more:ident)* => $text:literal, )*
        }
    )*) => { $(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[doc = $doc])* $variant, )*
            /// Anything else.
            Other(Errno),
        }

        impl $name {
            /// The error number of the system call.
            pub fn errno(self) -> Errno {
                match self {
                    $( Self::$variant => Errno::$first, )*
                    Self::Other(errno) => errno,
                }
            }
        }

        impl From<Errno> for $name {
            fn from(errno: Errno) -> Self {
                match errno {
                    $( Errno::$first $(| Errno::$more)* => Self::$variant, )*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for std::io::Error {
            fn from(error: $name) -> Self {
                error.errno().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Self::$variant => write!(f, concat!($what, ": ", $text)), )*
                    Self::Other(errno) => write!(f, concat!($what, ": {}"), errno),
                }
            }
        }

        impl std::error::Error for $name {}
    )* };
}

errors! {
    /// Why the device could not be opened.
    OpenError: "cannot open /dev/liveupdate" {
        /// This kernel has no live update, or it is off.
        Absent = NOENT | NODEV | NXIO => "this kernel offers no live update (kho=on liveupdate=on turns it on)",
        /// Another process has the device open.
        Busy = BUSY => "somebody has it open",
        /// What the previous kernel handed over is unusable.
        Unreadable = IO => "what the previous kernel handed over cannot be read",
        /// The caller lacks the right.
        NotPermitted = ACCESS | PERM => "not permitted",
    }

    /// Why a session could not be made.
    CreateSessionError: "cannot create the session" {
        /// The name is empty, too long, or has a NUL in it.
        BadName = INVAL => "a name has 1 to 63 bytes and no NUL",
        /// An outgoing session has this name.
        Exists = EXIST => "there is one of this name",
        /// The handover has room for no more sessions.
        Full = NOSPC => "there are too many sessions",
        /// No descriptor is left, in this process or in the system.
        NoDescriptor = MFILE | NFILE => "no descriptor is left",
        /// There is not enough memory.
        NoMemory = NOMEM => "out of memory",
    }

    /// Why a session could not be retrieved.
    RetrieveSessionError: "cannot retrieve the session" {
        /// None of this name has arrived, or it is finished.
        Unknown = NOENT => "none of this name has arrived",
        /// It has arrived damaged; or what has arrived is, so that it may have been in it.
        Damaged = BADMSG => "it has arrived damaged, or may have been in what has (see the kernel's log)",
        /// Somebody has it.
        AlreadyRetrieved = INVAL => "it is retrieved already",
        /// No descriptor is left, in this process or in the system.
        NoDescriptor = MFILE | NFILE => "no descriptor is left",
        /// There is not enough memory.
        NoMemory = NOMEM => "out of memory",
    }

    /// Why a file could not be preserved.
    PreserveError: "cannot preserve the file" {
        /// The session has a file with this token.
        TokenUsed = EXIST => "its token is used already",
        /// The file is preserved, in this session or another, maybe through another descriptor.
        FilePreserved = BUSY => "it is preserved already",
        /// Files of this kind cannot be preserved.
        Unsupported = NOENT => "files of its kind cannot be preserved",
        /// The descriptor is no open file.
        BadDescriptor = BADF => "the descriptor is not that of an open file",
        /// The session is not an outgoing one, or a file that this one needs is not preserved.
        Refused = INVAL => "the session is not an outgoing one, or the file needs another one preserved first",
        /// A memfd has seals that the handover does not know.
        UnknownSeals = OPNOTSUPP => "it has seals that cannot be handed over",
        /// The loaded image reads no format that files of its kind are written in.
        NotReadNext = PROTONOSUPPORT => "the kernel that is loaded would not read it",
        /// The file is too large for the handover.
        TooLarge = FBIG => "it is too large",
        /// The session has room for no more files.
        Full = NOSPC => "the session is full",
        /// There is not enough memory.
        NoMemory = NOMEM => "out of memory",
    }

    /// Why a file could not be retrieved.
    RetrieveError: "cannot retrieve the file" {
        /// The session has no file with this token, or it is finished.
        Unknown = NOENT => "its session has no such token",
        /// The session is not an incoming one, or what was handed over of the file makes no sense.
        Refused = INVAL => "the session is not an incoming one, or what was handed over of the file is invalid",
        /// What was handed over of the file cannot be restored.
        Damaged = IO => "what was handed over of it cannot be restored",
        /// This kernel has no driver for files of its kind, or not yet.
        NoHandler = NODEV => "this kernel has no driver for it; if that is a module, load it",
        /// The file needs something that this kernel does not have, such as seals it does not know.
        Unsupported = OPNOTSUPP => "this kernel lacks something that it needs",
        /// No descriptor is left, in this process or in the system.
        NoDescriptor = MFILE | NFILE => "no descriptor is left",
        /// There is not enough memory.
        NoMemory = NOMEM => "out of memory",
    }

    /// Why a session could not be finished.
    FinishError: "cannot finish the session" {
        /// A file of it cannot be let go of yet.
        Busy = BUSY => "a file cannot be let go of yet",
        /// This kernel has no driver for a file of it, or not yet; closing the session gives the
        /// file up.
        NoHandler = NODEV => "this kernel has no driver for a file of it; if that is a module, load it",
        /// It is not an incoming session.
        NotIncoming = INVAL => "it is not an incoming session",
    }
}

impl From<NameError> for CreateSessionError {
    fn from(_: NameError) -> Self {
        Self::BadName
    }
}

/// No session can have such a name.
impl From<NameError> for RetrieveSessionError {
    fn from(_: NameError) -> Self {
        Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names_and_numbers_again() {
        assert_eq!(OpenError::from(Errno::NODEV), OpenError::Absent);
        assert_eq!(PreserveError::from(Errno::BUSY).errno(), Errno::BUSY);
        assert_eq!(
            PreserveError::from(Errno::NOENT),
            PreserveError::Unsupported
        );
        assert_eq!(RetrieveError::from(Errno::NOENT), RetrieveError::Unknown);
        let odd = FinishError::from(Errno::INTR);
        assert_eq!(odd, FinishError::Other(Errno::INTR));
        assert_eq!(std::io::Error::from(odd).raw_os_error(), Some(4));
    }

    #[test]
    fn texts_say_what_was_tried_and_why_it_failed() {
        assert_eq!(
            RetrieveSessionError::AlreadyRetrieved.to_string(),
            "cannot retrieve the session: it is retrieved already"
        );
    }
}
