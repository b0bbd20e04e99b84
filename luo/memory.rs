// SPDX-License-Identifier: GPL-2.0

//! What handlers in this crate see of KHO: its two records, each under its lock.

use crate::kho::incoming::Incoming;
use crate::kho::outgoing::Outgoing;
use crate::sys::error::Result;

/// The records of what is preserved. Each call takes and gives back a lock.
pub(crate) trait Kho {
    fn outgoing<T>(&mut self, f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T>;
    fn incoming<T>(&mut self, f: impl FnOnce(&mut Incoming) -> Result<T>) -> Result<T>;
}
