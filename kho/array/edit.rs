// SPDX-License-Identifier: GPL-2.0

//! Setting and clearing values.

use core::ops::RangeInclusive;

use super::find::is_present;
use super::shape::{height, node, place, slot, split, HEIGHTS, MAP, TREES, VALUES};
use super::Array;
use crate::kho::link::{self, commit};
use crate::kho::page::PreservedPage;
use crate::sys::error::{Result, EINVAL};
use crate::sys::{Frame, FRAME_WORDS};

/// Most pages on the way to a value, the root included.
const PATH: usize = HEIGHTS as usize + 1;

impl Array {
    /// Sets a value; returns what was there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing has changed then.
    pub(crate) fn set(&mut self, at: u64, value: u64) -> Result<Option<u64>> {
        let (number, slot) = split(at);
        let Some(leaf) = self.leaf(number) else {
            self.grow(number, slot, value)?;
            self.len += 1;
            return Ok(None);
        };
        self.last = Some((number, leaf));
        let old = is_present(leaf, slot).then(|| leaf.word(slot));
        leaf.set_word(slot, value);
        if old.is_none() {
            commit();
            let word = VALUES + slot / 64;
            leaf.set_word(word, leaf.word(word) | 1 << (slot % 64));
            self.len += 1;
        }
        Ok(old)
    }

    /// Takes a value out; returns what was there. Pages that get empty are given back.
    pub(crate) fn clear(&mut self, at: u64) -> Option<u64> {
        let (number, slot) = split(at);
        let leaf = self.leaf(number)?;
        if !is_present(leaf, slot) {
            return None;
        }
        let old = leaf.word(slot);
        let word = VALUES + slot / 64;
        leaf.set_word(word, leaf.word(word) & !(1 << (slot % 64)));
        commit();
        leaf.set_word(slot, 0);
        self.len = self.len.saturating_sub(1);
        self.last = Some((number, leaf));
        if (0..MAP).all(|word| leaf.word(VALUES + word) == 0) {
            self.prune(number);
        }
        Some(old)
    }

    /// Takes out all values of a range.
    pub(crate) fn clear_range(&mut self, range: RangeInclusive<u64>) {
        let mut from = Some(*range.start());
        while let Some((at, _)) = from.and_then(|from| self.next(from)) {
            if at > *range.end() {
                return;
            }
            self.clear(at);
            from = at.checked_add(1);
        }
    }

    /// Makes the way to a leaf that does not exist, with one value in it. All of it is made before
    /// anything leads there.
    fn grow(&mut self, number: u64, slot_of: usize, value: u64) -> Result {
        let height = height(number);
        // The link that leads nowhere, and the level of the node it should lead to.
        let (mut parent, mut word, mut level) =
            (self.root.frame(), TREES + height as usize, height);
        while let Some(node) = link::target(parent.word(word)) {
            // Not a leaf: that does not exist.
            (parent, word) = (node, slot(number, level));
            level = level.checked_sub(1).ok_or(EINVAL)?;
        }
        let mut made: [Option<PreservedPage>; PATH] = [const { None }; PATH];
        let mut first = 0;
        let mut leaf = None;
        for (of, page) in (0..=level).zip(made.iter_mut()) {
            let frame = page.insert(PreservedPage::new()?).frame();
            if of == 0 {
                frame.set_word(slot_of, value);
                frame.set_word(VALUES + slot_of / 64, 1 << (slot_of % 64));
                leaf = Some((number, frame));
            } else {
                frame.set_word(slot(number, of), first);
            }
            first = link::to(frame, place(of, node(number, of)));
        }
        commit();
        parent.set_word(word, first);
        self.last = leaf;
        made.into_iter().flatten().for_each(|page| {
            page.keep();
        });
        Ok(())
    }

    /// Gives back the pages on the way to an empty leaf that hold nothing any more.
    fn prune(&mut self, number: u64) {
        let height = height(number);
        // The links on the way, the root's first.
        let mut path = [(self.root.frame(), TREES + height as usize); PATH];
        let mut len = 1;
        for level in (1..=height).rev() {
            let (parent, word) = path[len - 1];
            let Some(node) = link::target(parent.word(word)) else {
                break;
            };
            path[len] = (node, slot(number, level));
            len += 1;
        }
        self.last = None;
        for &(parent, word) in path.iter().take(len).rev() {
            let Some(child) = link::target(parent.word(word)) else {
                return;
            };
            parent.set_word(word, 0);
            commit();
            drop(PreservedPage::of(child));
            if parent == self.root.frame() || !is_empty(parent, word) {
                return;
            }
        }
    }
}

/// Whether a table has no links. Neighbours of the one cleared last are where others most often
/// are.
fn is_empty(table: Frame, near: usize) -> bool {
    let set = |word: usize| table.word(word) != 0;
    !(near..FRAME_WORDS).any(set) && !(0..near).rev().any(set)
}

impl Drop for Array {
    fn drop(&mut self) {
        for tree in 0..HEIGHTS {
            let root = self.root.frame();
            let top = link::target(root.word(TREES + tree as usize));
            root.set_word(TREES + tree as usize, 0);
            commit();
            if let Some(top) = top {
                free(top, tree);
            }
        }
    }
}

/// Gives back a node and all below it.
fn free(node: Frame, level: u32) {
    if level > 0 {
        for word in 0..FRAME_WORDS {
            if let Some(child) = link::target(node.word(word)) {
                free(child, level - 1);
            }
        }
    }
    drop(PreservedPage::of(node));
}
