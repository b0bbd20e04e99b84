// SPDX-License-Identifier: GPL-2.0

//! A simulated machine for host builds: page frames with physical addresses, memblock, and a page
//! allocator that fails on demand. One a thread, so that tests run side by side.

pub(crate) mod alloc;
pub(crate) mod boot_mem;
pub(crate) mod catalogue;
pub(crate) mod cmdline;
pub(crate) mod cpu;
pub(crate) mod driver;
pub(crate) mod early;
pub(crate) mod faults;
pub(crate) mod file;
mod frame;
pub(crate) mod gate;
pub(crate) mod image;
pub(crate) mod libfdt;
pub(crate) mod lock;
pub(crate) mod machine;
pub(crate) mod pages;
pub(crate) mod shared;

pub(crate) use frame::Frame;

/// log2 of the page size.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// Alignment of scratch areas: smaller than real ones, as the machine is.
pub(crate) const SCRATCH_ALIGN: u64 = 4096 << 6;

/// Error numbers, as the kernel crate has them.
pub(crate) mod error {
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
}

/// The log, kept by the machine.
pub(crate) mod log {
    pub(crate) use core::fmt::Display;
    pub(crate) use core::format_args as fmt;

    macro_rules! record {
        ($($arg:tt)*) => { $crate::sys::machine::log(format!($($arg)*)) };
    }

    pub(crate) use record as pr_err;
    pub(crate) use record as pr_info;
    pub(crate) use record as pr_warn;
}
