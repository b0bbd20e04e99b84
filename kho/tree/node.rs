// SPDX-License-Identifier: GPL-2.0

//! One node of the tree: which word and bit belong to a key at each level.

use crate::kho::addr::PhysAddr;
use crate::kho::key::KEY_BITS;
use crate::sys::layout::{field, fingerprint};
use crate::sys::{declare::Declared, declare_format, Frame, FRAME_WORDS, PAGE_SHIFT};

/// Key bits resolved by a table: a page of 64-bit entries.
pub(crate) const TABLE_BITS: u32 = PAGE_SHIFT - 3;

/// Key bits resolved by a leaf: a page of bits.
pub(crate) const LEAF_BITS: u32 = PAGE_SHIFT + 3;

/// Levels, leaves included.
pub(crate) const DEPTH: u32 = (KEY_BITS - LEAF_BITS).div_ceil(TABLE_BITS) + 1;

declare_format! {
    /// Tables, leaves, and what a key says.
    FORMAT = Declared::new("radix", 1, "rw", LAYOUT);
}

/// Not fields but bits of a key, from the highest on, and how many levels they take.
const LAYOUT: u32 = fingerprint(&[&[
    field("levels", 0, DEPTH as usize),
    field("key", 0, KEY_BITS as usize),
    field("table", 0, TABLE_BITS as usize),
    field("leaf", 0, LEAF_BITS as usize),
]]);

/// Position of a table index of `level` (1 and up) within a key.
pub(crate) const fn slot_shift(level: u32) -> u32 {
    LEAF_BITS + TABLE_BITS * (level - 1)
}

/// Index into a table of `level` (1 and up) on the way to leaf number `leaf`.
pub(crate) const fn slot(leaf: u64, level: u32) -> usize {
    ((leaf >> (TABLE_BITS * (level - 1))) & ((1 << TABLE_BITS) - 1)) as usize
}

/// The node that entry `slot` of `table` points to.
pub(crate) fn child(table: Frame, slot: usize) -> Option<Frame> {
    match table.word(slot) {
        0 => None,
        phys => Frame::at(PhysAddr::new(phys)),
    }
}

/// Whether no word of the node is set. `near` is the word that was cleared last: its neighbours
/// are where others are most often found.
pub(crate) fn is_empty(node: Frame, near: usize) -> bool {
    let set = |word: usize| node.word(word) != 0;
    !(near..FRAME_WORDS).any(set) && !(0..near).rev().any(set)
}

/// The bits of one word that belong to keys `first..end` of a leaf, by word number and mask.
pub(crate) fn masks(first: u64, end: u64) -> impl Iterator<Item = (usize, u64)> {
    let last_word = if end > first {
        (end - 1) / 64 + 1
    } else {
        first / 64
    };
    (first / 64..last_word).map(move |word| {
        let low = first.saturating_sub(word * 64);
        let high = (end - word * 64).min(64);
        let upper = if high == 64 {
            u64::MAX
        } else {
            (1 << high) - 1
        };
        (word as usize, upper & (u64::MAX << low))
    })
}

/// The number of the leaf that holds `key`, and the key's bit in it.
pub(crate) const fn split(key: u64) -> (u64, u64) {
    (key >> LEAF_BITS, key & ((1 << LEAF_BITS) - 1))
}

/// Cuts keys `first..end` at leaf boundaries: leaf number, first bit, end bit.
pub(crate) fn leaves(first: u64, end: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    let last = if end > first {
        split(end - 1).0 + 1
    } else {
        split(first).0
    };
    (split(first).0..last).map(move |leaf| {
        let base = leaf << LEAF_BITS;
        (
            leaf,
            first.saturating_sub(base),
            (end - base).min(1 << LEAF_BITS),
        )
    })
}
