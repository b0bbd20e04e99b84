// SPDX-License-Identifier: GPL-2.0

//! Looking up values, and walking them in order.

use super::shape::{
    first_of, height, index, slot, split, values_of, BITS, HEIGHTS, LAST_LEAF, MAP, TREES, VALUES,
};
use super::Array;
use crate::kho::link;
use crate::sys::{Frame, FRAME_WORDS};

impl Array {
    /// The value at an index, if there is one.
    pub(crate) fn get(&mut self, at: u64) -> Option<u64> {
        let (leaf, slot) = split(at);
        let frame = self.leaf(leaf)?;
        self.last = Some((leaf, frame));
        is_present(frame, slot).then(|| frame.word(slot))
    }

    /// The first value at an index or behind it, with its index.
    pub(crate) fn next(&mut self, from: u64) -> Option<(u64, u64)> {
        let (mut number, mut first) = split(from);
        loop {
            let (found, leaf) = match self.leaf(number) {
                Some(leaf) => (number, leaf),
                None => self.next_leaf(number)?,
            };
            if found != number {
                first = 0;
            }
            self.last = Some((found, leaf));
            if let Some(slot) = first_present(leaf, first).filter(|at| *at < values_of(found)) {
                return Some((index(found, slot), leaf.word(slot)));
            }
            number = found.checked_add(1).filter(|next| *next <= LAST_LEAF)?;
            first = 0;
        }
    }

    /// The leaf of a number, if it exists.
    pub(super) fn leaf(&self, number: u64) -> Option<Frame> {
        if let Some((_, leaf)) = self.last.filter(|(last, _)| *last == number) {
            return Some(leaf);
        }
        let height = height(number);
        let top = link::target(self.root.frame().word(TREES + height as usize))?;
        (1..=height).rev().try_fold(top, |node, level| {
            link::target(node.word(slot(number, level)))
        })
    }

    /// The first leaf of a number or a higher one.
    fn next_leaf(&self, from: u64) -> Option<(u64, Frame)> {
        (height(from)..HEIGHTS).find_map(|tree| {
            let top = link::target(self.root.frame().word(TREES + tree as usize))?;
            next_in(top, tree, from.max(first_of(tree)))
        })
    }
}

/// The first leaf of a number or a higher one in a tree whose top is `top`.
fn next_in(top: Frame, tree: u32, from: u64) -> Option<(u64, Frame)> {
    let mut want = from;
    // Each turn either returns or moves `want` past a whole table.
    'from_top: loop {
        if height(want) > tree {
            return None;
        }
        let mut node = top;
        for level in (1..=tree).rev() {
            let first = slot(want, level);
            let below = BITS * (level - 1);
            match (first..FRAME_WORDS).find(|&at| node.word(at) != 0) {
                Some(found) => {
                    if found != first {
                        let skip = (found - first) as u64;
                        want = ((want >> below) + skip) << below;
                    }
                    node = link::target(node.word(found))?;
                }
                None => {
                    let above = below + BITS;
                    want = ((want >> above) + 1) << above;
                    continue 'from_top;
                }
            }
        }
        return Some((want, node));
    }
}

/// Whether a leaf has a value.
pub(super) fn is_present(leaf: Frame, slot: usize) -> bool {
    leaf.word(VALUES + slot / 64) & 1 << (slot % 64) != 0
}

/// The first value of a leaf from a slot on.
fn first_present(leaf: Frame, from: usize) -> Option<usize> {
    (from / 64..MAP).find_map(|word| {
        let keep = match word == from / 64 {
            true => u64::MAX << (from % 64),
            false => u64::MAX,
        };
        let bits = leaf.word(VALUES + word) & keep;
        (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
    })
}
