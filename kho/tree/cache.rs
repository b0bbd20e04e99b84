// SPDX-License-Identifier: GPL-2.0

//! Remembers the last leaf used of each order, so that neighbours are found without a walk.

use super::node::{is_empty, masks, split, LEAF_BITS};
use super::Tree;
use crate::kho::key::{Run, KEY_BITS};
use crate::sys::error::Result;
use crate::sys::{Frame, NodeStore};

/// No leaf has this number.
const NONE: u64 = u64::MAX;

/// Single-key operations on one tree through a cache of one leaf an order.
///
/// # Invariants
///
/// A remembered leaf is in the tree. Whoever changes the tree by another way calls
/// [`LeafCache::forget`] before the next use.
pub(crate) struct LeafCache {
    /// By the position of the key's top bit: leaf number, and the leaf or its absence.
    last: [(u64, Option<Frame>); KEY_BITS as usize],
}

impl LeafCache {
    pub(crate) const fn new() -> Self {
        Self {
            last: [(NONE, None); KEY_BITS as usize],
        }
    }

    /// Forgets everything remembered.
    pub(crate) fn forget(&mut self) {
        self.last = [(NONE, None); KEY_BITS as usize];
    }

    /// Whether `key` is present.
    pub(crate) fn contains(&mut self, tree: Tree, key: u64) -> bool {
        let (_, bit) = split(key);
        self.leaf(tree, key)
            .is_some_and(|leaf| leaf.word((bit / 64) as usize) & (1 << (bit % 64)) != 0)
    }

    /// Adds one key, as [`Tree::insert`] does.
    pub(crate) fn insert(&mut self, tree: Tree, key: u64, store: &mut impl NodeStore) -> Result {
        if let Some(leaf) = self.leaf(tree, key) {
            let (_, bit) = split(key);
            let word = (bit / 64) as usize;
            leaf.set_word(word, leaf.word(word) | 1 << (bit % 64));
            return Ok(());
        }
        self.forget();
        tree.insert(Run { first: key, len: 1 }, store)
    }

    /// Removes one key; true if it was there. With a store, nodes that get empty are given back;
    /// without one they stay, for [`Tree::prune_run`] or [`Tree::put_back`].
    pub(crate) fn remove<S: NodeStore>(
        &mut self,
        tree: Tree,
        key: u64,
        store: Option<&mut S>,
    ) -> bool {
        let (_, bit) = split(key);
        let (word, mask) = ((bit / 64) as usize, 1 << (bit % 64));
        let Some(leaf) = self.leaf(tree, key) else {
            return false;
        };
        let old = leaf.word(word);
        leaf.set_word(word, old & !mask);
        if let Some(store) = store {
            if old & !mask == 0 && is_empty(leaf, word) {
                self.forget();
                tree.prune_run(Run { first: key, len: 1 }, store);
            }
        }
        old & mask != 0
    }

    /// Adds a run of keys, as [`Tree::insert`] does; without a walk if one known leaf has room for
    /// all of them.
    pub(crate) fn insert_run(
        &mut self,
        tree: Tree,
        run: Run,
        store: &mut impl NodeStore,
    ) -> Result {
        let (number, first) = split(run.first);
        let end = first.saturating_add(run.len);
        if end <= 1 << LEAF_BITS && number >> (KEY_BITS - LEAF_BITS) == 0 {
            if let Some(leaf) = self.leaf(tree, run.first) {
                for (word, mask) in masks(first, end) {
                    leaf.set_word(word, leaf.word(word) | mask);
                }
                return Ok(());
            }
        }
        self.forget();
        tree.insert(run, store)
    }

    /// Takes out the leading keys of a run that are present, up to the end of the first one's leaf.
    /// Returns how many, and whether the leaf is empty now; it stays in the tree.
    pub(crate) fn take_prefix(&mut self, tree: Tree, run: Run) -> (u64, bool) {
        let (_, first) = split(run.first);
        let end = first.saturating_add(run.len).min(1 << LEAF_BITS);
        let Some(leaf) = self.leaf(tree, run.first) else {
            return (0, false);
        };
        let (mut taken, mut last) = (0, 0);
        for (word, mask) in masks(first, end) {
            let old = leaf.word(word);
            // The lowest key of this word that is missing ends the prefix.
            let missing = mask & !old;
            let take = match missing {
                0 => mask,
                _ => mask & ((1 << missing.trailing_zeros()) - 1),
            };
            leaf.set_word(word, old & !take);
            taken += u64::from(take.count_ones());
            last = word;
            if missing != 0 {
                break;
            }
        }
        (taken, taken > 0 && is_empty(leaf, last))
    }

    /// Whether the leaf of a run, whose keys were taken out, is empty; `None` if there are more
    /// leaves than one.
    pub(crate) fn is_emptied(&mut self, tree: Tree, run: Run) -> Option<bool> {
        let (number, bit) = split(run.first);
        if split(run.end().saturating_sub(1)).0 != number {
            return None;
        }
        let leaf = self.leaf(tree, run.first);
        Some(leaf.is_some_and(|leaf| is_empty(leaf, (bit / 64) as usize)))
    }

    fn leaf(&mut self, tree: Tree, key: u64) -> Option<Frame> {
        let (number, _) = split(key);
        let entry = self.last.get_mut(key.checked_ilog2()? as usize)?;
        if entry.0 != number {
            *entry = (number, tree.leaf(number));
        }
        entry.1
    }
}
