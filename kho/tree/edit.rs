// SPDX-License-Identifier: GPL-2.0

//! Inserting and removing runs of keys.

use super::node::{child, is_empty, leaves, masks, slot, NodeStore, DEPTH};
use super::Tree;
use crate::kho::key::{Run, KEY_BITS};
use crate::sys::error::{Result, EINVAL, ENOMEM, ERANGE};
use crate::sys::{Frame, FRAME_WORDS};

impl Tree {
    /// Adds every key of a run; keys already present stay.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] for keys wider than the format allows, [`ENOMEM`] when a node cannot be had; the
    /// tree is then as it was.
    pub(crate) fn insert(&self, run: Run, store: &mut impl NodeStore) -> Result {
        let end = run.first.checked_add(run.len).ok_or(ERANGE)?;
        if end > 1 << KEY_BITS {
            return Err(ERANGE);
        }
        // All nodes first, all bits after: bits cannot fail, and empty nodes are easily told from
        // those that were there before.
        for (leaf, _, _) in leaves(run.first, end) {
            if let Err(err) = self.grow(leaf, store) {
                for (made, _, _) in leaves(run.first, end).take_while(|l| l.0 <= leaf) {
                    self.prune(made, 0, store);
                }
                return Err(err);
            }
        }
        for (number, first, end) in leaves(run.first, end) {
            if let Some(leaf) = self.leaf(number) {
                for (word, mask) in masks(first, end) {
                    leaf.set_word(word, leaf.word(word) | mask);
                }
            }
        }
        Ok(())
    }

    /// Removes the keys of a run and gives empty nodes back. Returns how many were there.
    pub(crate) fn remove(&self, run: Run, store: &mut impl NodeStore) -> u64 {
        let mut removed = 0;
        for (number, first, end) in leaves(run.first, run.end()) {
            let Some(leaf) = self.leaf(number) else {
                continue;
            };
            removed += clear(leaf, first, end);
            self.prune(number, (first / 64) as usize, store);
        }
        removed
    }

    /// Removes the keys of a run but keeps the nodes, so that [`Tree::put_back`] cannot fail.
    /// Returns how many were there.
    pub(crate) fn take_out(&self, run: Run) -> u64 {
        leaves(run.first, run.end())
            .filter_map(|(number, first, end)| Some(clear(self.leaf(number)?, first, end)))
            .sum()
    }

    /// Undoes [`Tree::take_out`].
    pub(crate) fn put_back(&self, run: Run) -> Result {
        for (number, first, end) in leaves(run.first, run.end()) {
            let leaf = self.leaf(number).ok_or(EINVAL)?;
            for (word, mask) in masks(first, end) {
                leaf.set_word(word, leaf.word(word) | mask);
            }
        }
        Ok(())
    }

    /// Gives back the nodes on the way to the keys of a run that hold nothing any more.
    pub(crate) fn prune_run(&self, run: Run, store: &mut impl NodeStore) {
        for (number, first, _) in leaves(run.first, run.end()) {
            self.prune(number, (first / 64) as usize, store);
        }
    }

    /// Gives back every node that is empty, the root excepted.
    pub(crate) fn sweep(&self, store: &mut impl NodeStore) {
        sweep(self.root(), DEPTH - 1, store);
    }

    /// Gives back every node, the root included.
    pub(crate) fn destroy(self, store: &mut impl NodeStore) {
        destroy(self.root(), DEPTH - 1, store);
    }

    /// The leaf of that number, if it exists.
    pub(super) fn leaf(&self, number: u64) -> Option<Frame> {
        (1..DEPTH)
            .rev()
            .try_fold(self.root(), |node, level| child(node, slot(number, level)))
    }

    /// Makes the way to a leaf.
    fn grow(&self, number: u64, store: &mut impl NodeStore) -> Result {
        let mut node = self.root();
        for level in (1..DEPTH).rev() {
            let slot = slot(number, level);
            node = match child(node, slot) {
                Some(next) => next,
                None => {
                    let new = store.alloc().ok_or(ENOMEM)?;
                    node.set_word(slot, new.phys().raw());
                    new
                }
            };
        }
        Ok(())
    }

    /// Gives back the nodes on the way to a leaf that are empty, from the bottom up.
    fn prune(&self, number: u64, near: usize, store: &mut impl NodeStore) {
        let mut path = [(self.root(), 0); DEPTH as usize];
        let mut filled = 1;
        for level in (1..DEPTH).rev() {
            let slot = slot(number, level);
            let parent = path[filled - 1].0;
            let Some(node) = child(parent, slot) else {
                break;
            };
            path[filled] = (node, slot);
            filled += 1;
        }
        let mut near = if filled == path.len() { near } else { 0 };
        while filled > 1 {
            let (node, slot) = path[filled - 1];
            if !is_empty(node, near) {
                return;
            }
            path[filled - 2].0.set_word(slot, 0);
            store.free(node);
            near = slot;
            filled -= 1;
        }
    }
}

/// Clears bits `first..end` of a leaf; returns how many were set.
fn clear(leaf: Frame, first: u64, end: u64) -> u64 {
    let mut cleared = 0;
    for (word, mask) in masks(first, end) {
        let old = leaf.word(word);
        cleared += u64::from((old & mask).count_ones());
        leaf.set_word(word, old & !mask);
    }
    cleared
}

fn destroy(node: Frame, level: u32, store: &mut impl NodeStore) {
    if level > 0 {
        for slot in 0..FRAME_WORDS {
            if let Some(next) = child(node, slot) {
                destroy(next, level - 1, store);
            }
        }
    }
    store.free(node);
}

/// Frees the empty nodes below `node`; returns whether it is empty itself.
fn sweep(node: Frame, level: u32, store: &mut impl NodeStore) -> bool {
    if level > 0 {
        for slot in 0..FRAME_WORDS {
            if let Some(next) = child(node, slot) {
                if sweep(next, level - 1, store) {
                    node.set_word(slot, 0);
                    store.free(next);
                }
            }
        }
    }
    is_empty(node, 0)
}
