// SPDX-License-Identifier: GPL-2.0

//! Formats: what code reads and writes which bytes, and which of them two kernels have in common.

pub(crate) mod catalogue;
pub(crate) mod choose;
pub(crate) mod cmdline;
pub(crate) mod mainline;
pub(crate) mod release;

#[cfg(all(test, not(kernel)))]
mod catalogue_tests;
#[cfg(all(test, not(kernel)))]
mod rules_tests;
