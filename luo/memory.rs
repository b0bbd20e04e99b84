// SPDX-License-Identifier: GPL-2.0

//! The part of KHO that handlers in this crate use: its two records, each under its lock.

use crate::kho::incoming::Incoming;
use crate::kho::outgoing::Outgoing;
use crate::kho::state;
use crate::sys::error::{Result, ENOENT};

/// The records of what is preserved. Each call takes and gives back a lock.
pub(crate) trait Kho {
    fn outgoing<T>(&mut self, f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T>;
    fn incoming<T>(&mut self, f: impl FnOnce(&mut Incoming) -> Result<T>) -> Result<T>;
}

/// KHO of this kernel.
pub(crate) struct Records;

impl Kho for Records {
    fn outgoing<T>(&mut self, f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T> {
        state::outgoing(f)
    }

    fn incoming<T>(&mut self, f: impl FnOnce(&mut Incoming) -> Result<T>) -> Result<T> {
        state::incoming(|incoming| Some(f(incoming))).ok_or(ENOENT)?
    }
}
