// SPDX-License-Identifier: GPL-2.0

//! The preserved frames of a tree as ascending, coalesced ranges.
//!
//! The tree sorts by order first and address second. Each order by itself is ascending, so merging
//! one cursor an order gives all of them by address, in one pass, without memory, at a cost per
//! run. Because the result is sorted, a frame listed twice shows up as an overlap of neighbours.

use super::addr::{Order, PageRange, Pfn};
use super::key::{end_of_order, first_of_order, order_of};
use super::tree::{Cursor, Tree};

/// Most orders there can be.
pub(crate) const ORDERS: usize = Order::MAX as usize + 1;

/// The runs of one order, with the next one looked up.
pub(crate) struct Head {
    order: Order,
    runs: Cursor,
    next: PageRange,
}

/// Two preservations claim the same frame, or a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// These frames are claimed twice, starting here.
    Overlap(Pfn),
    /// This is in the tree and is no key.
    NotAKey(u64),
}

/// Yields maximal ranges of preserved frames in ascending order.
pub(crate) struct Merge<'a> {
    heads: &'a mut [Option<Head>],
    used: usize,
    /// Single frames to merge in as if preserved, ascending: the tree's own nodes.
    frames: &'a [u64],
    current: Option<PageRange>,
    fault: Option<Fault>,
}

impl<'a> Merge<'a> {
    /// Merges a tree and `frames`, which must be ascending frame numbers. `heads` has room for
    /// [`ORDERS`]; they are the caller's because they are too large for a kernel stack.
    pub(crate) fn new(heads: &'a mut [Option<Head>], tree: Tree, frames: &'a [u64]) -> Self {
        let mut merge = Self {
            heads,
            used: 0,
            frames,
            current: None,
            fault: None,
        };
        merge.start(tree);
        merge
    }

    /// Looks up the first run of each order of the tree.
    fn start(&mut self, tree: Tree) {
        // Hop from order to order; keys ascend as orders descend.
        let mut from = 0;
        while let Some(run) = tree.runs(from, u64::MAX).next() {
            let Some(order) = order_of(run.first) else {
                self.fault = Some(Fault::NotAKey(run.first));
                break;
            };
            let end = end_of_order(order);
            let mut runs = tree.runs(first_of_order(order), end);
            if let Some(first) = runs.next() {
                if let Some(head) = self.heads.get_mut(self.used) {
                    *head = Some(Head {
                        order,
                        runs,
                        next: first.frames(order),
                    });
                    self.used += 1;
                }
            }
            from = end;
        }
    }

    /// The orders that occur, one bit each.
    pub(crate) fn orders(&self) -> u64 {
        self.heads
            .iter()
            .take(self.used)
            .flatten()
            .fold(0, |bits, head| bits | 1 << head.order.raw())
    }

    /// The fault that was found, once the ranges have ended.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The lowest range of all orders and frames, not yet coalesced.
    fn lowest(&mut self) -> Option<PageRange> {
        let heads = self.heads.get_mut(..self.used)?;
        let mut best: Option<usize> = None;
        let mut start = Pfn::new(Pfn::LIMIT);
        for (i, head) in heads.iter().enumerate() {
            if let Some(head) = head {
                if head.next.start < start {
                    start = head.next.start;
                    best = Some(i);
                }
            }
        }
        if let Some((&first, rest)) = self.frames.split_first() {
            if Pfn::new(first) < start {
                self.frames = rest;
                return Some(PageRange::new(Pfn::new(first), 1));
            }
        }
        let slot = heads.get_mut(best?)?;
        let head = slot.as_mut()?;
        let range = head.next;
        match head.runs.next() {
            Some(run) => head.next = run.frames(head.order),
            None => *slot = None,
        }
        Some(range)
    }
}

impl Iterator for Merge<'_> {
    type Item = PageRange;

    fn next(&mut self) -> Option<PageRange> {
        if self.fault.is_some() {
            return None;
        }
        let mut current = match self.current.take() {
            Some(range) => range,
            None => self.lowest()?,
        };
        while let Some(range) = self.lowest() {
            if range.start < current.end {
                self.fault = Some(Fault::Overlap(range.start));
                return None;
            }
            if range.start > current.end {
                self.current = Some(range);
                break;
            }
            current.end = range.end;
        }
        Some(current)
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_merge))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;
    use crate::kho::key::Run;
    use crate::kho::tree::NodeStore;
    use crate::sys::pages::BuddyNodes;

    fn add(tree: Tree, pfn: u64, order: u32, count: u64) {
        let run = Order::new(order).and_then(|order| Run::new(Pfn::new(pfn), order, count));
        assert!(run.is_some_and(|run| tree.insert(run, &mut BuddyNodes).is_ok()));
    }

    #[test]
    fn orders_and_nodes_are_coalesced() {
        let Some(root) = BuddyNodes.alloc() else {
            return;
        };
        let tree = Tree::at(root);
        add(tree, 0x100, 0, 16);
        add(tree, 0x110, 4, 2);
        add(tree, 0x131, 0, 1);
        add(tree, 0x200, 9, 3);
        let mut heads = [const { None }; ORDERS];
        let mut merge = Merge::new(&mut heads, tree, &[0x130, 0x900]);
        assert!(merge.orders() == 1 | 1 << 4 | 1 << 9);
        let expected = [(0x100, 0x32), (0x200, 0x600), (0x900, 1)];
        for (start, pages) in expected {
            assert!(merge.next() == Some(PageRange::new(Pfn::new(start), pages)));
        }
        assert!(merge.next().is_none());
        assert!(merge.fault().is_none());
        tree.destroy(&mut BuddyNodes);
    }

    #[test]
    fn a_frame_claimed_twice_ends_it() {
        let Some(root) = BuddyNodes.alloc() else {
            return;
        };
        let tree = Tree::at(root);
        add(tree, 0x100, 4, 1);
        add(tree, 0x10f, 0, 1);
        let mut heads = [const { None }; ORDERS];
        let mut merge = Merge::new(&mut heads, tree, &[]);
        while merge.next().is_some() {}
        assert!(merge.fault() == Some(Fault::Overlap(Pfn::new(0x10f))));
        tree.destroy(&mut BuddyNodes);
    }
}
