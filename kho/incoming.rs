// SPDX-License-Identifier: GPL-2.0

//! What the previous kernel handed over and has not been given out yet.
//!
//! The incoming tree itself is the record: a key that is present is memory nobody owns in this
//! kernel, and giving it out takes the key away. So each page is given out once, by construction,
//! and nothing has to be written into struct pages for it.

use super::addr::{Order, PageRange, Pfn};
use super::key::{encode, Run};
use super::tree::{LeafCache, Tree};
use crate::sys::error::Result;
use crate::sys::pages::ReservedNodes;

/// The preserved memory that waits for its owners.
///
/// # Invariants
///
/// The tree was checked: its nodes are distinct frames of RAM, its keys are blocks of RAM that
/// overlap neither each other, nor scratch, nor the nodes; and all of these frames are reserved.
pub(crate) struct Incoming {
    tree: Tree,
    cache: LeafCache,
    /// Orders that occurred at boot, one bit each.
    orders: u64,
    /// Whether the page allocator takes back nodes yet.
    settled: bool,
}

impl Incoming {
    /// Takes over a tree that was checked, with the orders that occur in it.
    pub(crate) const fn new(tree: Tree, orders: u64) -> Self {
        Self {
            tree,
            cache: LeafCache::new(),
            orders,
            settled: false,
        }
    }

    #[cfg(not(kernel))]
    pub(crate) fn tree(&self) -> Tree {
        self.tree
    }

    /// The page allocator runs: frees the nodes that got empty so far, and from now on each node
    /// that does.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
        self.cache.forget();
        self.tree.sweep(&mut ReservedNodes);
    }

    /// Order of the block that starts at `pfn`, if it waits.
    pub(crate) fn block_at(&mut self, pfn: Pfn) -> Option<Order> {
        let mut rest = self.orders;
        while rest != 0 {
            let order = Order::new(rest.trailing_zeros())?;
            rest &= rest - 1;
            if pfn.alignment() < order.raw() {
                // Higher orders are aligned even less.
                return None;
            }
            if self.cache.contains(self.tree, encode(pfn, order)) {
                return Some(order);
            }
        }
        None
    }

    /// Claims the block that starts at `pfn`: it is the caller's from now on.
    pub(crate) fn claim_block(&mut self, pfn: Pfn) -> Option<Order> {
        let order = self.block_at(pfn)?;
        let mut store = self.settled.then_some(ReservedNodes);
        self.cache
            .remove(self.tree, encode(pfn, order), store.as_mut())
            .then_some(order)
    }

    /// Whether the range is made up of whole blocks that wait.
    pub(crate) fn has_pages(&mut self, range: PageRange) -> bool {
        let mut pfn = range.start;
        while pfn < range.end {
            match self.block_at(pfn) {
                Some(order) => pfn = pfn.plus(order.pages()),
                None => return false,
            }
        }
        pfn == range.end
    }

    /// Claims all blocks of a range, or none if it is not made up of whole blocks that wait.
    pub(crate) fn claim_pages(&mut self, range: PageRange) -> bool {
        if range.is_empty() || !self.has_pages(range) {
            return false;
        }
        let mut pfn = range.start;
        while pfn < range.end {
            match self.claim_block(pfn) {
                Some(order) => pfn = pfn.plus(order.pages()),
                None => return false,
            }
        }
        true
    }

    /// Claims `count` equal blocks of `order` that may be given back by [`Self::unclaim_run`] until
    /// [`Self::finish_run`]; false, and nothing changes, unless all of them wait.
    pub(crate) fn claim_run(&mut self, pfn: Pfn, order: Order, count: u64) -> bool {
        let Some(run) = Run::new(pfn, order, count) else {
            return false;
        };
        self.tree.has_all(run) && self.tree.take_out(run) == run.len
    }

    /// Undoes [`Self::claim_run`].
    pub(crate) fn unclaim_run(&mut self, pfn: Pfn, order: Order, count: u64) -> Result {
        match Run::new(pfn, order, count) {
            Some(run) => self.tree.put_back(run),
            None => Ok(()),
        }
    }

    /// Makes [`Self::claim_run`] final: gives back nodes that got empty.
    pub(crate) fn finish_run(&mut self, pfn: Pfn, order: Order, count: u64) {
        if let (true, Some(run)) = (self.settled, Run::new(pfn, order, count)) {
            self.cache.forget();
            self.tree.prune_run(run, &mut ReservedNodes);
        }
    }
}
