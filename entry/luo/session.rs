// SPDX-License-Identifier: GPL-2.0

//! Session descriptors: an anonymous file for each session that somebody has open.

use core::ffi::c_void;
use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::fs::file::{flags, FileDescriptorReservation, LocalFile};
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

use super::argument::{parse, Argument};
use super::orchestrator::luo;
use crate::luo::ioctl::{FdArgument, FinishArgument, NameArgument, SessionCommand, Side};
use crate::luo::text::Name;
use crate::luo::{incoming, outgoing, Luo};
use crate::sys::driver::File;
use crate::sys::error::Result;

/// The private data of a session's file.
pub(super) enum Session {
    Outgoing(Arc<outgoing::Session>),
    Incoming(Arc<incoming::Session>),
}

impl Session {
    fn side(&self) -> Side {
        match self {
            Self::Outgoing(_) => Side::Outgoing,
            Self::Incoming(_) => Side::Incoming,
        }
    }

    fn name(&self) -> &Name {
        match self {
            Self::Outgoing(session) => &session.name,
            Self::Incoming(session) => &session.name,
        }
    }

    /// A file for it. When the file's last descriptor is closed, an outgoing session is given up
    /// and one that arrived is finished.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], `ENFILE`; the session is as before then.
    pub(super) fn into_file(self) -> Result<File> {
        const PREFIX: &[u8] = b"[luo_session] ";
        let mut link = [0u8; 128];
        let text = Iterator::chain(PREFIX.iter(), self.name().text());
        link.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        let session = KBox::into_raw(KBox::new(self, GFP_KERNEL)?).cast::<c_void>();
        let rw = c_int::try_from(flags::O_RDWR)?;
        // SAFETY: The name is NUL-terminated, as it is shorter than the array; the operations live
        // for ever and expect a session that is theirs.
        let made = from_err_ptr(unsafe {
            bindings::anon_inode_getfile(link.as_ptr().cast(), &OPERATIONS.0, session, rw)
        });
        match made.map(NonNull::new) {
            // SAFETY: A file just made, with a reference that is ours.
            Ok(Some(file)) => Ok(unsafe { ARef::from_raw(file.cast()) }),
            failed => {
                // SAFETY: Made above; no file has it.
                drop(unsafe { KBox::from_raw(session.cast::<Self>()) });
                Err(failed.err().unwrap_or(ENOMEM))
            }
        }
    }

    fn ioctl(&self, cmd: u32, arg: usize) -> Result {
        let (command, argument) = parse(cmd, arg, Some(self.side()))?;
        let luo = luo()?;
        match (command, self) {
            (SessionCommand::Preserve, Self::Outgoing(session)) => {
                preserve(luo, session, &argument)
            }
            (SessionCommand::Retrieve, Self::Incoming(session)) => {
                retrieve(luo, session, &argument)
            }
            (SessionCommand::Finish, Self::Incoming(session)) => finish(luo, session, &argument),
            (SessionCommand::GetName, _) => {
                let before: NameArgument = argument.read()?;
                if before.fd != 0 {
                    return Err(EINVAL);
                }
                let name = *self.name().bytes();
                argument.write(&NameArgument { name, ..before })
            }
            // `parse` has found the side to be wrong.
            _ => Err(EINVAL),
        }
    }
}

fn preserve(luo: &Luo, session: &outgoing::Session, argument: &Argument) -> Result {
    let asked: FdArgument = argument.read()?;
    argument.answer(&asked, &asked, || {
        luo.preserve(&luo.operate()?, session, asked.token, || file_of(asked.fd))
    })
}

/// The file of a descriptor of the caller's.
fn file_of(fd: i32) -> Result<File> {
    let fd = u32::try_from(fd).map_err(|_| EBADF)?;
    let file = LocalFile::fget(fd).map_err(|_| EBADF)?;
    // SAFETY: This is an ioctl: nobody on this thread is using a file's position.
    Ok(unsafe { LocalFile::assume_no_fdget_pos(file) })
}

fn retrieve(luo: &Luo, session: &incoming::Session, argument: &Argument) -> Result {
    let asked: FdArgument = argument.read()?;
    let (reserved, fd) = reserve_fd()?;
    let file = argument.answer(&asked, &FdArgument { fd, ..asked }, || {
        luo.retrieve(&luo.operate()?, session, asked.token)
    })?;
    reserved.fd_install(file);
    Ok(())
}

fn finish(luo: &Luo, session: &incoming::Session, argument: &Argument) -> Result {
    let asked: FinishArgument = argument.read()?;
    if asked.reserved != 0 {
        return Err(EINVAL);
    }
    argument.answer(&asked, &asked, || luo.finish(&luo.operate()?, session))
}

/// A free descriptor of the caller's, and its number.
pub(super) fn reserve_fd() -> Result<(FileDescriptorReservation, i32)> {
    let reserved = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let fd = i32::try_from(reserved.reserved_fd())?;
    Ok((reserved, fd))
}

/// A table that is never written.
struct Operations(bindings::file_operations);

// SAFETY: It is constant.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::file_operations {
    release: Some(release),
    unlocked_ioctl: Some(unlocked_ioctl),
    // Arguments have the same layout for 32-bit callers.
    #[cfg(CONFIG_COMPAT)]
    compat_ioctl: Some(bindings::compat_ptr_ioctl),
    ..pin_init::zeroed()
});

/// # Safety
///
/// `file` is a session's.
unsafe extern "C" fn unlocked_ioctl(
    file: *mut bindings::file,
    cmd: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: By the caller's promise; the session is there until `release`.
    let session = unsafe { &*(*file).private_data.cast::<Session>() };
    match session.ioctl(cmd, arg) {
        Ok(()) => 0,
        Err(err) => err.to_errno() as c_long,
    }
}

/// # Safety
///
/// `file` is a session's, and nobody uses it any more.
unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: By the caller's promise; made in `into_file`.
    let session = unsafe { KBox::from_raw((*file).private_data.cast::<Session>()) };
    if let Ok(luo) = luo() {
        let operating = luo.operate_always();
        match &*session {
            Session::Outgoing(session) => luo.close_outgoing(&operating, session),
            Session::Incoming(session) => luo.close_incoming(&operating, session),
        }
    }
    0
}
