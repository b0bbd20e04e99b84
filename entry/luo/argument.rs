// SPDX-License-Identifier: GPL-2.0

//! Arguments of ioctls: structures that begin with their size, of which either side may know more.

use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};
use zerocopy::{FromBytes, IntoBytes};

use crate::luo::ioctl::{Command, Side};
use crate::sys::error::Result;

/// An argument in the caller's memory, of a size that will do.
pub(super) struct Argument {
    at: UserPtr,
    /// Bytes that the caller has, at least as many as this kernel knows.
    len: usize,
}

/// Finds the command and its argument, for a session of the side given, if it is one.
///
/// # Errors
///
/// [`EINVAL`] for a number that is no command, a command for the other side, or an argument that is
/// too small; [`ENOIOCTLCMD`] for a number with wrong upper bits; [`EFAULT`].
pub(super) fn parse<C: Command>(cmd: u32, arg: usize, of: Option<Side>) -> Result<(C, Argument)> {
    let command = C::numbered(cmd).ok_or(EINVAL)?;
    let at = UserPtr::from_addr(arg);
    let mut len = [0; size_of::<u32>()];
    UserSlice::new(at, len.len())
        .reader()
        .read_slice(&mut len)?;
    if command.code() != cmd {
        return Err(ENOIOCTLCMD);
    }
    if command.side().is_some_and(|side| of != Some(side)) {
        return Err(EINVAL);
    }
    let len = u32::from_ne_bytes(len) as usize;
    if len < command.size() {
        return Err(EINVAL);
    }
    Ok((command, Argument { at, len }))
}

impl Argument {
    /// Reads what this kernel knows.
    ///
    /// # Errors
    ///
    /// [`E2BIG`] if the rest is not zero, [`EFAULT`].
    pub(super) fn read<T: FromBytes + IntoBytes>(&self) -> Result<T> {
        let mut value = T::new_zeroed();
        let mut reader = UserSlice::new(self.at, self.len).reader();
        reader.read_slice(value.as_mut_bytes())?;
        let mut rest = [0; 256];
        while !reader.is_empty() {
            let count = reader.len().min(rest.len());
            let Some(part) = rest.get_mut(..count) else {
                break;
            };
            reader.read_slice(part)?;
            if part.iter().any(|byte| *byte != 0) {
                return Err(E2BIG);
            }
        }
        Ok(value)
    }

    /// Writes what this kernel knows.
    ///
    /// # Errors
    ///
    /// [`EFAULT`].
    pub(super) fn write<T: IntoBytes + zerocopy::Immutable>(&self, value: &T) -> Result {
        UserSlice::new(self.at, self.len)
            .writer()
            .write_slice(value.as_bytes())
    }

    /// Writes the answer first, then does what was asked: so nothing is done that the caller cannot
    /// be told of. If that fails, `before` is put back.
    pub(super) fn answer<T: IntoBytes + zerocopy::Immutable, R>(
        &self,
        before: &T,
        answer: &T,
        act: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        self.write(answer)?;
        act().inspect_err(|_| {
            // It was writable just now; if it is not any more, the caller made it so.
            let _ = self.write(before);
        })
    }
}
