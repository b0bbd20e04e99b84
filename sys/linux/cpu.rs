// SPDX-License-Identifier: GPL-2.0

//! Which CPU this is, and where. A caller that may be moved to another one meanwhile takes it for a
//! hint.

use kernel::cpu::{nr_cpu_ids, CpuId};

use super::glue;

/// The number of this CPU.
#[inline]
pub(crate) fn this() -> usize {
    CpuId::current().as_u32() as usize
}

/// Lets others run, where that has to be said; for loops that may be long. No spinlock is held.
#[inline]
pub(crate) fn resched() {
    // SAFETY: The caller may sleep.
    unsafe { glue::lu_resched() };
}

/// The numbers of all CPUs are less.
pub(crate) fn count() -> usize {
    nr_cpu_ids() as usize
}

/// The NUMA node that this CPU gets memory from.
pub(crate) fn node() -> i32 {
    // SAFETY: This only looks.
    unsafe { glue::lu_this_node() }
}
