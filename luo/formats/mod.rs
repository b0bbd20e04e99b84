// SPDX-License-Identifier: GPL-2.0

//! Formats: what code reads and writes which bytes, and which of them two kernels have in common.

pub(crate) mod catalogue;
#[cfg(all(test, not(kernel)))]
mod catalogue_tests;
