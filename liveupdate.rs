// SPDX-License-Identifier: GPL-2.0

//! Live update for Linux: the crate root, built by Kbuild into vmlinux and by cargo for the host.
//!
//! The floors, each of which uses those below it and none above:
//!
//! - `entry`: every way in;
//! - `memfd_luo` and `eventfd_luo`: what of a file is handed over;
//! - `luo`: sessions, files, handlers and FLBs;
//! - `kho`: memory;
//! - `sys`: the machine, which is C and bindings in the kernel and a simulation on the host. Both
//!   offer the same names, so that `kho` is one source for two builds.
//!
//! `Documentation/design.rst` draws the whole picture.

#![cfg_attr(not(kernel), allow(dead_code))]

#[cfg(kernel)]
const __LOG_PREFIX: &[u8] = b"KHO\0";

/// Where the kernel crate's macros look for the module they are in.
#[cfg(all(kernel, CONFIG_LIVEUPDATE))]
type LocalModule = entry::built_in::BuiltIn;

#[cfg(kernel)]
pub(crate) mod entry;
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, not(kernel)))]
pub(crate) mod eventfd_luo;
pub(crate) mod kho;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod luo;
#[cfg(any(CONFIG_LIVEUPDATE_MEMFD, not(kernel)))]
pub(crate) mod memfd_luo;
pub(crate) mod sys;

/// Whole live updates on the simulated machine.
#[cfg(all(any(test, fuzzing), not(kernel)))]
#[path = "selftests/sim/mod.rs"]
mod sim;

/// What the fuzzers call.
#[cfg(fuzzing)]
pub use sim::targets as fuzzing;
