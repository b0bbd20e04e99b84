// SPDX-License-Identifier: GPL-2.0

//! Pages that were handed over and go on being preserved, in this kernel: claimed while they are
//! checked, then taken over all together, or put back all together.
//!
//! A page is claimed before anything in it is read. So nothing is read that was not preserved, a
//! page that is named twice or that somebody else has already cannot be claimed, and whoever
//! follows links comes to an end, whatever the links say.

use super::addr::{Order, PageRange, PhysAddr};
use crate::kho::state as handover;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Result, EINVAL, EIO};
use crate::sys::{pages, Frame};

/// Pages that are claimed. Dropping it puts them back: that cannot fail, as no node of the incoming
/// tree is given back while this lives.
pub(crate) struct Claimed {
    /// Neighbours put together.
    runs: KVVec<PageRange>,
}

impl Claimed {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        handover::incoming(|incoming| {
            incoming.hold();
            Some(())
        });
        Self { runs: KVVec::new() }
    }

    /// Claims the page at an address.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is none that waits, [`EIO`] if its memory has gone bad, `ENOMEM`.
    pub(crate) fn claim(&mut self, at: PhysAddr) -> Result<Frame> {
        let frame = Frame::at(at).ok_or(EINVAL)?;
        self.runs.reserve(1, GFP_KERNEL)?;
        let page = PageRange::new(at.pfn(), 1);
        handover::incoming(|incoming| {
            (incoming.claim_prefix(page.start, Order::ZERO, 1) == 1).then_some(())
        })
        .ok_or(EINVAL)?;
        match self.runs.last_mut() {
            Some(run) if run.end == page.start => run.end = page.end,
            _ => {
                // There is room: it was reserved.
                self.runs
                    .push(page, GFP_KERNEL)
                    .inspect_err(|_| put_back(page))?;
            }
        }
        match pages::any_poisoned(page) {
            true => Err(EIO),
            false => Ok(frame),
        }
    }

    /// Makes the pages this kernel's, and preserves them for the next one. `publish` is what else
    /// must succeed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, what `publish` says; all pages wait again then.
    pub(crate) fn adopt(mut self, publish: impl FnOnce() -> Result) -> Result {
        let mut done = 0;
        let preserved = self.runs.iter().try_for_each(|run| {
            handover::outgoing(|out| out.preserve_run(run.start, Order::ZERO, run.pages()))?;
            done += 1;
            Ok(())
        });
        if let Err(err) = preserved.and_then(|()| publish()) {
            for run in self.runs.iter().take(done) {
                let _ = handover::outgoing(|out| {
                    out.unpreserve_run(run.start, Order::ZERO, run.pages());
                    Ok(())
                });
            }
            return Err(err);
        }
        for run in self.runs.iter() {
            // None is bad: each was looked at when it was claimed.
            pages::give_out_pages(*run);
        }
        self.runs.clear();
        Ok(())
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.runs.iter().for_each(|run| put_back(*run));
        handover::incoming(|incoming| {
            incoming.release();
            Some(())
        });
    }
}

fn put_back(run: PageRange) {
    handover::incoming(|incoming| {
        incoming
            .unclaim_run(run.start, Order::ZERO, run.pages())
            .ok()
    });
}
