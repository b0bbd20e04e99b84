// SPDX-License-Identifier: GPL-2.0

//! KHO's records of the simulated kernel, lent by the test that boots it.

use std::cell::RefCell;
use std::ffi::CStr;

use super::lock::take;
use crate::kho::addr::PhysAddr;
use crate::kho::incoming::Incoming;
use crate::kho::outgoing::Outgoing;
use crate::sys::error::{Result, EINVAL};

thread_local! {
    static OUTGOING: RefCell<Option<Outgoing>> = const { RefCell::new(None) };
    static INCOMING: RefCell<Option<Incoming>> = const { RefCell::new(None) };
}

/// Lends the records of a kernel to whoever asks for them on this thread.
pub(crate) fn lend(out: Outgoing, incoming: Option<Incoming>) {
    OUTGOING.replace(Some(out));
    INCOMING.replace(incoming);
}

/// Takes back what was lent.
pub(crate) fn take_back() -> (Option<Outgoing>, Option<Incoming>) {
    (OUTGOING.take(), INCOMING.take())
}

/// Runs `f` on the outgoing record; `EINVAL` when there is none, as with KHO off.
pub(crate) fn outgoing<T>(f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T> {
    let _held = take("kho_outgoing");
    OUTGOING.with_borrow_mut(|out| f(out.as_mut().ok_or(EINVAL)?))
}

/// Runs `f` on what was handed over, if anything was.
pub(crate) fn incoming<T>(f: impl FnOnce(&mut Incoming) -> Option<T>) -> Option<T> {
    let _held = take("kho_incoming");
    INCOMING.with_borrow_mut(|incoming| f(incoming.as_mut()?))
}

/// Names a blob of `size` bytes in the root FDT.
pub(crate) fn add_subtree(name: &CStr, at: PhysAddr, size: usize) -> Result {
    outgoing(|out| out.add_subtree(name, at, size as u64))
}

/// Undoes [`add_subtree`].
pub(crate) fn remove_subtree(at: PhysAddr) {
    let _ = outgoing(|out| {
        out.remove_subtree(at);
        Ok(())
    });
}
