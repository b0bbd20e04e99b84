// SPDX-License-Identifier: GPL-2.0

//! Error numbers, as the kernel crate has them.

/// An errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error(pub(crate) i32);

pub(crate) type Result<T = (), E = Error> = core::result::Result<T, E>;

impl From<super::alloc::AllocError> for Error {
    fn from(_: super::alloc::AllocError) -> Self {
        ENOMEM
    }
}

pub(crate) const ENOENT: Error = Error(2);
pub(crate) const EIO: Error = Error(5);
pub(crate) const E2BIG: Error = Error(7);
pub(crate) const ENOMEM: Error = Error(12);
pub(crate) const EBUSY: Error = Error(16);
pub(crate) const EEXIST: Error = Error(17);
pub(crate) const ENODEV: Error = Error(19);
pub(crate) const EINVAL: Error = Error(22);
pub(crate) const EFBIG: Error = Error(27);
pub(crate) const ENOSPC: Error = Error(28);
pub(crate) const ERANGE: Error = Error(34);
pub(crate) const ENODATA: Error = Error(61);
pub(crate) const EBADMSG: Error = Error(74);
pub(crate) const EHWPOISON: Error = Error(133);
pub(crate) const EJUKEBOX: Error = Error(528);
pub(crate) const EPROTONOSUPPORT: Error = Error(93);
pub(crate) const EOPNOTSUPP: Error = Error(95);
