// SPDX-License-Identifier: GPL-2.0

//! Where the values of an array are.

use crate::kho::root::{self, Kind};
use crate::sys::layout::{field, fingerprint};
use crate::sys::{declare::Declared, declare_format, FRAME_WORDS, PAGE_SHIFT};

/// Bytes of a word.
const WORD: usize = 8;

declare_format! {
    /// Arrays. Read by every kernel; written only for a driver that makes one, whose own format
    /// says that there is something to hand over.
    FORMAT = Declared::new("kho-array", 1, "r", LAYOUT);
}

const LAYOUT: u32 = fingerprint(&[
    &root::FIELDS,
    &[field("trees", TREES * WORD, HEIGHTS as usize * WORD)],
    &[field("links", 0, FRAME_WORDS * WORD)],
    &[
        field("values", 0, VALUES * WORD),
        field("present", VALUES * WORD, MAP * WORD),
    ],
]);

/// Roots of arrays.
pub(crate) const KIND: Kind = Kind {
    magic: *b"khoarray",
    version: 1,
    prefix: "array",
};

/// Bits of a leaf's number that a table resolves.
pub(super) const BITS: u32 = PAGE_SHIFT - 3;

/// Words of a leaf that say which values are there.
pub(super) const MAP: usize = FRAME_WORDS / 64;

/// Values of a leaf.
pub(super) const VALUES: usize = FRAME_WORDS - MAP;

/// The number of the last leaf.
pub(super) const LAST_LEAF: u64 = u64::MAX / VALUES as u64;

/// The first word of the root that has a tree.
pub(super) const TREES: usize = root::HEADER / WORD;

/// How many trees there are, by the levels of tables they have.
pub(super) const HEIGHTS: u32 = height(LAST_LEAF) + 1;

/// Levels of tables above a leaf: digits of its number.
pub(super) const fn height(leaf: u64) -> u32 {
    (u64::BITS - leaf.leading_zeros()).div_ceil(BITS)
}

/// The number of the first leaf of a tree.
pub(super) const fn first_of(height: u32) -> u64 {
    match height {
        0 => 0,
        _ => 1 << (BITS * (height - 1)),
    }
}

/// The slot on the way to a leaf in a table of a level (1 and up).
pub(super) const fn slot(leaf: u64, level: u32) -> usize {
    ((leaf >> (BITS * (level - 1))) & ((1 << BITS) - 1)) as usize
}

/// The number of the node of a level that a leaf is below, among those of its level.
pub(super) const fn node(leaf: u64, level: u32) -> u64 {
    leaf >> (BITS * level)
}

/// The place of the link to a node of a level: leaves are of level 0.
pub(super) const fn place(level: u32, number: u64) -> u64 {
    ((level as u64) << 60) ^ number
}

/// The leaf that has an index, and where in it.
pub(super) const fn split(index: u64) -> (u64, usize) {
    (index / VALUES as u64, (index % VALUES as u64) as usize)
}

/// The index of a value of a leaf.
pub(super) const fn index(leaf: u64, slot: usize) -> u64 {
    leaf * VALUES as u64 + slot as u64
}

/// How many values a leaf can have: the last one ends with the last index.
pub(super) const fn values_of(leaf: u64) -> usize {
    match leaf {
        LAST_LEAF => split(u64::MAX).1 + 1,
        _ => VALUES,
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_array_shape))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_in_one_tree() {
        assert!(height(0) == 0 && height(1) == 1);
        for tree in 1..HEIGHTS {
            let first = first_of(tree);
            assert!(height(first) == tree && height(first - 1) == tree - 1);
            // So the first slot of a tree's top is never used.
            assert!(slot(first, tree) == 1 && node(first, tree) == 0);
        }
        assert!(height(LAST_LEAF) == HEIGHTS - 1);
    }

    #[test]
    fn every_index_has_a_place() {
        for at in [0, 1, 503, 504, 1 << 20, 1 << 40, u64::MAX - 1, u64::MAX] {
            let (leaf, slot) = split(at);
            assert!(leaf <= LAST_LEAF && slot < values_of(leaf) && index(leaf, slot) == at);
        }
        assert!(TREES + (HEIGHTS as usize) < FRAME_WORDS);
    }
}
