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
pub(crate) mod error;
pub(crate) mod faults;
pub(crate) mod file;
mod frame;
pub(crate) mod gate;
pub(crate) mod image;
pub(crate) mod libfdt;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod pages;
pub(crate) mod shared;

pub(crate) use frame::Frame;

/// log2 of the page size.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// Alignment of scratch areas: smaller than real ones, as the machine is.
pub(crate) const SCRATCH_ALIGN: u64 = 4096 << 6;
