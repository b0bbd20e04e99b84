// SPDX-License-Identifier: GPL-2.0

//! The log, kept by the machine.

pub(crate) use core::fmt::Display;
pub(crate) use core::format_args as fmt;

macro_rules! record {
    ($($arg:tt)*) => { $crate::sys::machine::log(format!($($arg)*)) };
}

pub(crate) use record as pr_err;
pub(crate) use record as pr_info;
pub(crate) use record as pr_warn;
