// SPDX-License-Identifier: GPL-2.0

//! The words of include/linux/liveupdate.h that a driver and LUO have in common.

use crate::sys::error::Error;
use crate::sys::file::{File, Object};

/// The state of a file that its handler is told when it finishes.
pub(crate) enum Outcome {
    NotRetrieved,
    Retrieved(File),
    Failed(Error),
}

/// The state of one side of an FLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has asked for its object.
    Idle,
    /// Its object is there.
    Live,
    /// Its object could not be restored, and never will be.
    Failed(Error),
    /// Its last user has finished.
    Finished,
}

/// One side of an FLB, on the way out or in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    /// Files that use it, and others that hold its object.
    pub(crate) users: u32,
    /// The driver's own, as handed over.
    pub(crate) data: u64,
    /// The driver's live object.
    pub(crate) object: Object,
    pub(crate) phase: Phase,
}
