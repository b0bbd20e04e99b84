// SPDX-License-Identifier: GPL-2.0

//! The incoming record: all that the previous kernel handed over and that has not been claimed yet.
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
    /// Nodes that may have got empty while they are needed to undo claims.
    held: Held,
}

/// While anybody holds, no node is given back: what is claimed can be put back without fail.
struct Held {
    holders: u32,
    /// A key of each leaf that got empty meanwhile; when there are more, the whole tree is swept.
    emptied: [u64; Self::ROOM],
    count: usize,
}

impl Held {
    const ROOM: usize = 8;

    fn emptied(&mut self, key: u64) {
        if let Some(slot) = self.emptied.get_mut(self.count) {
            *slot = key;
        }
        self.count = self.count.saturating_add(1);
    }
}

impl Incoming {
    /// Takes over a tree that was checked, with the orders that occur in it.
    pub(crate) const fn new(tree: Tree, orders: u64) -> Self {
        Self {
            tree,
            cache: LeafCache::new(),
            orders,
            settled: false,
            held: Held {
                holders: 0,
                emptied: [0; Held::ROOM],
                count: 0,
            },
        }
    }

    #[cfg(not(kernel))]
    pub(crate) fn tree(&self) -> Tree {
        self.tree
    }

    /// Keeps all nodes until [`Self::release`], so that what is claimed meanwhile can be put back.
    #[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
    pub(crate) fn hold(&mut self) {
        self.held.holders = self.held.holders.saturating_add(1);
    }

    /// Ends [`Self::hold`]; the last one gives back the nodes that got empty.
    #[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
    pub(crate) fn release(&mut self) {
        self.held.holders = self.held.holders.saturating_sub(1);
        if self.held.holders != 0 || !self.settled || self.held.count == 0 {
            return;
        }
        self.cache.forget();
        match self.held.emptied.get(..self.held.count) {
            Some(keys) => {
                for &first in keys {
                    self.tree
                        .prune_run(Run { first, len: 1 }, &mut ReservedNodes);
                }
            }
            None => self.tree.sweep(&mut ReservedNodes),
        }
        self.held.count = 0;
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
        if self.held.holders != 0 {
            return (self.claim_prefix(pfn, order, 1) == 1).then_some(order);
        }
        let mut store = self.settled.then_some(ReservedNodes);
        self.cache
            .remove(self.tree, encode(pfn, order), store.as_mut())
            .then_some(order)
    }

    /// Claims the leading ones of `count` equal blocks of `order` that wait; returns how many. It
    /// may be fewer than wait, but is zero only if the first one does not. They may be given back
    /// by [`Self::unclaim_run`] until [`Self::release`]; the caller holds.
    pub(crate) fn claim_prefix(&mut self, pfn: Pfn, order: Order, count: u64) -> u64 {
        let Some(run) = Run::new(pfn, order, count) else {
            return 0;
        };
        let (taken, emptied) = self.cache.take_prefix(self.tree, run);
        if emptied {
            self.held.emptied(run.first);
        }
        taken
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
        let Some(run) = Run::new(pfn, order, count) else {
            return;
        };
        if self.held.holders != 0 {
            match self.cache.is_emptied(self.tree, run) {
                Some(true) => self.held.emptied(run.first),
                Some(false) => {}
                None => self.held.count = usize::MAX,
            }
        } else if self.settled {
            self.cache.forget();
            self.tree.prune_run(run, &mut ReservedNodes);
        }
    }
}
