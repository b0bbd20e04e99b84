// SPDX-License-Identifier: GPL-2.0

//! Block sets: records of one size in a chain of preserved pages.
//!
//! A block is a page: the address of the next block (zero: none), the number of records in it, then
//! the records. A count of zero is never handed over: mainline rejects it. (Layout:
//! include/linux/kho/abi/block.h.)

use super::addr::{Order, PhysAddr};
use super::incoming::Incoming;
use crate::sys::error::{Result, EINVAL, ENOSPC};
use crate::sys::layout::{field, fingerprint};
use crate::sys::{declare::Declared, declare_format, Frame, FRAME_WORDS};

/// Most blocks a set may have: mainline's limit, kept so that what is written can be read there.
pub(crate) const MAX_BLOCKS: usize = 10_000;

/// Bytes before the first record: the link and the count.
pub(crate) const HEADER: usize = 16;

declare_format! {
    /// Blocks. The contents of records belong to their author.
    FORMAT = Declared::new("kho-block", 1, "rw", LAYOUT);
}

const LAYOUT: u32 = fingerprint(&[&[
    field("next", 0, 8),
    field("count", 8, 8),
    field("records", HEADER, FRAME_WORDS * 8 - HEADER),
]]);

/// Records of `size` bytes that fit a block.
pub(crate) const fn records_per_block(size: usize) -> u64 {
    match (FRAME_WORDS * 8 - HEADER).checked_div(size) {
        Some(count) => count as u64,
        None => 0,
    }
}

/// The address of the block after this one.
pub(crate) fn next(block: Frame) -> PhysAddr {
    PhysAddr::new(block.word(0))
}

/// Links a block to the one after it.
pub(crate) fn set_next(block: Frame, next: PhysAddr) {
    block.set_word(0, next.raw());
}

/// Records in the block.
pub(crate) fn count(block: Frame) -> u64 {
    block.word(1)
}

pub(crate) fn set_count(block: Frame, count: u64) {
    block.set_word(1, count);
}

/// Empties a block but keeps its link.
pub(crate) fn clear(block: Frame) {
    for word in 1..FRAME_WORDS {
        block.set_word(word, 0);
    }
}

/// Checks a chain that the previous kernel left, calling `each` for every block in order.
///
/// # Errors
///
/// [`EINVAL`] for a block that does not wait in the incoming tree or whose count cannot be,
/// [`ENOSPC`] for a chain that is longer than any may be, as one with a cycle is; what `each`
/// returns otherwise.
pub(crate) fn check_chain(
    incoming: &mut Incoming,
    head: PhysAddr,
    per_block: u64,
    mut each: impl FnMut(Frame) -> Result,
) -> Result {
    let mut at = head;
    for _ in 0..MAX_BLOCKS {
        if at.raw() == 0 {
            return Ok(());
        }
        if !at.is_page_aligned() || incoming.block_at(at.pfn()) != Some(Order::ZERO) {
            return Err(EINVAL);
        }
        let block = Frame::at(at).ok_or(EINVAL)?;
        if !(1..=per_block).contains(&count(block)) {
            return Err(EINVAL);
        }
        each(block)?;
        at = next(block);
    }
    if at.raw() == 0 {
        Ok(())
    } else {
        Err(ENOSPC)
    }
}
