// SPDX-License-Identifier: GPL-2.0

//! The machine as the kernel gives it: bindings, C wrappers, and the C symbols others call.

#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod alloc;
pub(crate) mod boot_mem;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod catalogue;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod cmdline;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod cpu;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod driver;
pub(crate) mod early;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod file;
mod frame;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod gate;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod image;
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) mod lock;
pub(crate) mod pages;
pub(crate) mod shared;

pub(crate) use frame::Frame;

/// log2 of the page size.
pub(crate) const PAGE_SHIFT: u32 = kernel::page::PAGE_SHIFT as u32;

/// Alignment of scratch areas: the largest block of the page allocator, 4 MiB on x86-64. Deferred
/// initialisation of struct pages frees such blocks whole, so none may be partly scratch.
pub(crate) const SCRATCH_ALIGN: u64 =
    (kernel::page::PAGE_SIZE as u64) << kernel::bindings::MAX_PAGE_ORDER;

/// C functions of `sys/c`, from their header.
#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all
)]
pub(crate) mod glue {
    use kernel::ffi;
    include!(concat!(
        env!("OBJTREE"),
        "/kernel/liveupdate/rust/sys/c/glue.rs"
    ));
}

/// Error numbers.
pub(crate) mod error {
    pub(crate) use kernel::error::code::*;
    pub(crate) use kernel::error::{to_result, Error, Result};
}

/// The kernel log.
pub(crate) mod log {
    pub(crate) use kernel::fmt::Display;
    #[cfg(CONFIG_LIVEUPDATE)]
    pub(crate) use kernel::pr_info;
    #[cfg(CONFIG_LIVEUPDATE)]
    pub(crate) use kernel::prelude::fmt;
    pub(crate) use kernel::{pr_err, pr_warn};
}
