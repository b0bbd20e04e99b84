// SPDX-License-Identifier: GPL-2.0
//! Live update from userspace: `/dev/liveupdate`, sessions, and the files that go through a kexec
//! in them.
//!
//! Before the kexec a program opens the [`Device`], makes a [`Session`] and preserves files in it,
//! each under a token of its choice. It keeps the session open until the kexec: dropping a session
//! gives up what it preserves.
//!
//! ```no_run
//! use liveupdate_uapi::Device;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let guest_memory = std::fs::File::open("/proc/self/exe")?;
//! let session = Device::open()?.create_session("vmm/guest-7")?;
//! session.preserve(&guest_memory, 1)?;
//! // ... kexec_file_load(), and reboot(RB_KEXEC) with `session` still open.
//! # Ok(())
//! # }
//! ```
//!
//! In the next kernel it retrieves the session by its name, the files by their tokens, and
//! finishes. Dropping a [`RetrievedSession`] finishes it as well; what was not retrieved by then is
//! freed.
//!
//! ```no_run
//! use liveupdate_uapi::{Device, RetrieveSessionError};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! match Device::open()?.retrieve_session("vmm/guest-7") {
//!     Ok(session) => {
//!         let guest_memory = std::fs::File::from(session.retrieve(1)?);
//!         session.finish()?;
//!     }
//!     Err(RetrieveSessionError::Unknown) => println!("a fresh start"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Only one process at a time can have the device open, so it should be closed when it is no longer
//! needed; sessions live on without it. All descriptors made here are close-on-exec.
//!
//! The same interface for C is `liveupdate.h` beside this crate; [`raw`] has its structures and
//! numbers.

#![deny(missing_docs)]

mod device;
mod error;
mod name;
pub mod raw;
mod session;

pub use device::Device;
pub use error::{
    CreateSessionError, FinishError, NameError, OpenError, PreserveError, RetrieveError,
    RetrieveSessionError,
};
pub use name::Name;
pub use session::{FinishFailed, RetrievedSession, Session};

/// An error number of the system, as rustix has it.
pub use rustix::io::Errno;
