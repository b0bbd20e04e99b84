// SPDX-License-Identifier: GPL-2.0

//! CPUs of the simulated machine: a thread is on one of them, which a test chooses.

use super::machine::with;

/// The number of this CPU.
pub(crate) fn this() -> usize {
    with(|m| m.cpu)
}

/// Lets others run, where that has to be said.
pub(crate) fn resched() {}

/// How many there are: the first half of them is on the first node, the others on the second.
pub(crate) fn count() -> usize {
    4
}

/// The NUMA node of this CPU.
pub(crate) fn node() -> i32 {
    with(|m| (m.cpu / 2 % m.config.nodes.len()) as i32)
}
