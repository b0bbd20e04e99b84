// SPDX-License-Identifier: GPL-2.0

//! A checksum over the FDT and the tree's nodes, which tells metadata that was overwritten on the
//! way from metadata that was written wrong.
//!
//! The last thing a kernel does to its FDT before the jump is to add a property of our own,
//! [`NAME`], to the root node; mainline neither writes nor looks at it. It advises: what the
//! checksum says is logged, and whether a handover is good is judged without it.

use core::ffi::CStr;

use super::tree::Tree;
use crate::sys::fdt::Blob;
use crate::sys::{log, Frame, FRAME_WORDS};

/// Name of the property: one native-endian u64.
pub(crate) const NAME: &CStr = c"rust-kho,checksum";

/// Bytes of a word.
const WORD: usize = 8;

/// An odd number without pattern, 2^64 divided by the golden ratio: multiplying by it is
/// reversible.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A checksum of words. Each step is reversible, so that a change within one word is always seen.
pub(crate) struct Sum(u64);

impl Sum {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }

    pub(crate) fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(FACTOR).rotate_left(29);
    }
}

/// The checksum of an FDT of `len` bytes and of a tree. Of the FDT, the 8 bytes from `value` on
/// count as zero: they are where the checksum stands.
///
/// All nodes must be readable, and a tree of finite size.
pub(crate) fn of(fdt: Frame, len: usize, value: usize, tree: Tree) -> u64 {
    let mut sum = Sum::new();
    for word in 0..len.div_ceil(WORD).min(FRAME_WORDS) {
        let mut bytes = fdt.word(word).to_ne_bytes();
        let first = word * WORD;
        if first + WORD > value && first < value + WORD {
            for (at, byte) in (first..).zip(bytes.iter_mut()) {
                if (value..value + WORD).contains(&at) {
                    *byte = 0;
                }
            }
        }
        sum.add(u64::from_ne_bytes(bytes));
    }
    for node in tree.nodes(|_| true).flatten().filter_map(Frame::at) {
        for word in 0..FRAME_WORDS {
            sum.add(node.word(word));
        }
    }
    sum.value()
}

/// Compares with what the previous kernel wrote, if it did, and says so if that differs.
///
/// `blob` is the FDT at `fdt`; the tree's nodes have been found to be readable.
pub(crate) fn compare(blob: &Blob<'_>, fdt: Frame, tree: Tree) {
    let Some((value, wanted)) = blob.find_u64(Blob::ROOT, NAME) else {
        return;
    };
    let found = of(fdt, blob.len(), value, tree);
    if found != wanted {
        log::pr_warn!(
            "handed-over metadata was overwritten after it was complete: checksum {found:#x}, should be {wanted:#x}\n"
        );
    }
}
