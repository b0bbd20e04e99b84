// SPDX-License-Identifier: GPL-2.0

//! A page that is handed over for as long as its owner has it.

use super::addr::Order;
use super::tree::NodeStore;
use crate::kho::state as handover;
use crate::sys::error::{Result, ENOMEM};
use crate::sys::pages::BuddyNodes;
use crate::sys::Frame;

/// A page of this kernel, zeroed when made, that is preserved. Dropping it undoes both.
pub(crate) struct PreservedPage(Frame);

impl PreservedPage {
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL` while KHO is off; nothing has changed then.
    pub(crate) fn new() -> Result<Self> {
        let page = BuddyNodes.alloc().ok_or(ENOMEM)?;
        handover::outgoing(|out| out.preserve_block(page.phys().pfn(), Order::ZERO))
            .inspect_err(|_| BuddyNodes.free(page))?;
        Ok(Self(page))
    }

    /// The page of somebody who has kept it by [`Self::keep`], or adopted it.
    pub(crate) fn of(page: Frame) -> Self {
        Self(page)
    }

    /// Leaves it as it is: the caller has the page until it makes one of it [again](Self::of).
    pub(crate) fn keep(self) -> Frame {
        let page = self.0;
        core::mem::forget(self);
        page
    }

    pub(crate) fn frame(&self) -> Frame {
        self.0
    }
}

impl Drop for PreservedPage {
    fn drop(&mut self) {
        // It was preserved in `new`, so there is something to undo. Right before the jump it is too
        // late for that: the root FDT may name it, and what it says must stay true.
        let sealed = handover::outgoing(|out| {
            if !out.is_sealed() {
                out.unpreserve_block(self.0.phys().pfn(), Order::ZERO);
            }
            Ok(out.is_sealed())
        });
        if sealed != Ok(true) {
            BuddyNodes.free(self.0);
        }
    }
}
