// SPDX-License-Identifier: GPL-2.0

//! Ordered walk of the tree, a run of keys at a time.

use super::node::{child, slot, split, DEPTH, LEAF_BITS, TABLE_BITS};
use super::Tree;
use crate::kho::key::Run;
use crate::sys::{Frame, FRAME_WORDS};

/// Yields the maximal runs of present keys within bounds, in ascending order.
///
/// The tree must not change while a cursor is in use; the owner's lock sees to that.
pub(crate) struct Cursor {
    tree: Tree,
    /// The leaf that `next` is in, once looked up.
    leaf: Option<(u64, Frame)>,
    next: u64,
    end: u64,
}

impl Tree {
    /// The runs among keys `first..end`.
    pub(crate) fn runs(&self, first: u64, end: u64) -> Cursor {
        Cursor {
            tree: *self,
            leaf: None,
            next: first,
            end,
        }
    }

    /// The first leaf numbered `from` or higher.
    fn next_leaf(&self, from: u64) -> Option<(u64, Frame)> {
        let mut want = from;
        // Each turn either returns or moves `want` past a whole table.
        'from_root: loop {
            if want >> (TABLE_BITS * (DEPTH - 1)) != 0 {
                return None;
            }
            let mut node = self.root();
            for level in (1..DEPTH).rev() {
                let first = slot(want, level);
                let below = TABLE_BITS * (level - 1);
                match (first..FRAME_WORDS).find(|&i| node.word(i) != 0) {
                    Some(found) => {
                        if found != first {
                            let skip = (found - first) as u64;
                            want = ((want >> below) + skip) << below;
                        }
                        node = child(node, found)?;
                    }
                    None => {
                        want = ((want >> (below + TABLE_BITS)) + 1) << (below + TABLE_BITS);
                        continue 'from_root;
                    }
                }
            }
            return Some((want, node));
        }
    }
}

impl Cursor {
    /// The leaf that holds `self.next`, moving on to the next one that exists if need be.
    fn settle(&mut self) -> Option<Frame> {
        let (number, _) = split(self.next);
        if let Some((have, leaf)) = self.leaf {
            if have == number {
                return Some(leaf);
            }
        }
        let (found, leaf) = self.tree.next_leaf(number)?;
        if found != number {
            self.next = found << LEAF_BITS;
        }
        self.leaf = Some((found, leaf));
        Some(leaf)
    }

    /// Moves `next` to the first key from it on that is present (`set`) or absent (`!set`), within
    /// its leaf; to the start of the next leaf if there is none. True if found.
    fn scan(&mut self, leaf: Frame, set: bool) -> bool {
        let (number, bit) = split(self.next);
        let mut word = (bit / 64) as usize;
        let mut keep = u64::MAX << (bit % 64);
        while word < FRAME_WORDS {
            let bits = leaf.word(word);
            let hits = if set { bits } else { !bits } & keep;
            if hits != 0 {
                self.next =
                    (number << LEAF_BITS) | (word as u64 * 64 + u64::from(hits.trailing_zeros()));
                return true;
            }
            keep = u64::MAX;
            word += 1;
        }
        self.next = (number + 1) << LEAF_BITS;
        false
    }
}

impl Iterator for Cursor {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        // The first key of the run.
        let mut leaf = loop {
            if self.next >= self.end {
                return None;
            }
            let leaf = self.settle()?;
            if self.scan(leaf, true) {
                break leaf;
            }
        };
        let first = self.next;
        if first >= self.end {
            return None;
        }
        // Its end, which may be leaves away.
        let end = loop {
            let stopped = self.scan(leaf, false);
            let end = self.next;
            if stopped || end >= self.end {
                break end;
            }
            match self.settle() {
                Some(next) if self.next == end && next.word(0) & 1 != 0 => leaf = next,
                _ => break end,
            }
        };
        Some(Run {
            first,
            len: end.min(self.end) - first,
        })
    }
}
