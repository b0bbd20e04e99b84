// SPDX-License-Identifier: GPL-2.0

//! Formats: what code reads and writes which bytes, and which of them two kernels have in common.
//!
//! A format is an [`id`]. What this kernel has of them stands in its [`catalogue`] ([`own`]), and
//! in the registry of handlers. An [`image`] that is loaded is asked for its catalogue; a
//! [`choice`] of versions follows, before the kexec; [`structures`] are preserved without any. What
//! was [`written`] goes along, for the next kernel to judge.

pub(crate) mod catalogue;
pub(crate) mod choice;
#[cfg(not(kernel))]
pub(crate) mod choose;
pub(crate) mod cmdline;
pub(crate) mod id;
pub(crate) mod image;
pub(crate) mod mainline;
pub(crate) mod memory;
pub(crate) mod own;
pub(crate) mod release;
pub(crate) mod show;
pub(crate) mod structures;
pub(crate) mod written;

#[cfg(all(test, not(kernel)))]
pub(crate) mod catalogue_tests;
#[cfg(all(test, not(kernel)))]
mod rules_tests;
