// SPDX-License-Identifier: GPL-2.0
//! Formats of live updates: what a kernel's image reads and writes, and whether one can update to
//! another.
//!
//! A [`Side`] is what one kernel has, read from the file of its image ([`Side::read`]) or from the
//! running system ([`running::side`]). [`check::check`] says what an update from one to another
//! writes, or why it cannot be; [`compare::compare`] what a change of kernels broke; [`fields`]
//! what formats that are structs consist of. [`edit`] makes images for tests.

pub mod check;
pub mod compare;
pub mod edit;
pub mod fields;
pub mod image;
pub mod running;
mod shared;
pub mod show;
pub mod side;
mod unpack;

pub use check::{check, Options, Verdict};
pub use side::{Format, Side};
