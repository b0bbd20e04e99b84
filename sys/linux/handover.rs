// SPDX-License-Identifier: GPL-2.0

//! KHO's records of this kernel: what it hands over, and what was handed to it.

use core::ffi::CStr;

use super::state;
use crate::kho::addr::PhysAddr;
use crate::kho::incoming::Incoming;
use crate::kho::outgoing::Outgoing;
use crate::sys::error::{Result, EINVAL};

/// Runs `f` on the outgoing record; `EINVAL` when there is none, as with KHO off.
pub(crate) fn outgoing<T>(f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T> {
    f(state::OUTGOING.lock().as_mut().ok_or(EINVAL)?)
}

/// Runs `f` on what was handed over, if anything was.
pub(crate) fn incoming<T>(f: impl FnOnce(&mut Incoming) -> Option<T>) -> Option<T> {
    f(state::INCOMING.lock().as_mut()?)
}

/// KHO of this kernel, for handlers.
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, CONFIG_LIVEUPDATE_MEMFD))]
pub(crate) struct Records;

#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, CONFIG_LIVEUPDATE_MEMFD))]
impl crate::luo::memory::Kho for Records {
    fn outgoing<T>(&mut self, f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T> {
        outgoing(f)
    }

    fn incoming<T>(&mut self, f: impl FnOnce(&mut Incoming) -> Result<T>) -> Result<T> {
        incoming(|incoming| Some(f(incoming))).ok_or(crate::sys::error::ENOENT)?
    }
}

/// Names a blob of `size` bytes in the root FDT, and in debugfs.
pub(crate) fn add_subtree(name: &CStr, at: PhysAddr, size: usize) -> Result {
    outgoing(|out| out.add_subtree(name, at, size as u64))?;
    #[cfg(CONFIG_KEXEC_HANDOVER_DEBUGFS)]
    crate::entry::kho::debugfs::add_outgoing(name, at, size);
    Ok(())
}

/// Undoes [`add_subtree`].
pub(crate) fn remove_subtree(at: PhysAddr) {
    // Out of debugfs first: the caller frees the blob as soon as this returns.
    #[cfg(CONFIG_KEXEC_HANDOVER_DEBUGFS)]
    crate::entry::kho::debugfs::remove_outgoing(at);
    let _ = outgoing(|out| {
        out.remove_subtree(at);
        Ok(())
    });
}
