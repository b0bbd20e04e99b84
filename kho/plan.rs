// SPDX-License-Identifier: GPL-2.0

//! A bounded list of blocks to reserve in place of unboundedly many preserved ranges.
//!
//! memblock keeps its regions in a sorted array and scans it on every insertion, so reserving each
//! of a million scattered pages is quadratic. While ranges are few, each is a block of its own.
//! When there are more than [`SOFT_LIMIT`], the narrowest gaps are reserved along with their
//! neighbours, wider ones as needed; the gaps are freed once the page allocator runs.

use super::addr::PageRange;
use crate::sys::boot_mem::BootSlice;
use crate::sys::error::{Result, E2BIG, ENOMEM};
use zerocopy_derive::FromZeros;

/// Number of blocks at which gaps begin to be swallowed. Insertion into memblock costs a few
/// instructions a region, so this many cost about a million in all.
const SOFT_LIMIT: usize = 512;

/// Blocks that are left when gaps have been swallowed: no more memory is withheld than must be.
const TARGET: usize = SOFT_LIMIT / 4 * 3;

/// Gaps of so few pages may be swallowed at once, when some as wide have been already.
const TINY: u64 = 16;

/// Blocks there can be when gaps cannot be swallowed: they hold memory holes, scratch, or memory
/// that firmware or this kernel has reserved.
const HARD_LIMIT: usize = 2048;

/// Memory to reserve as one.
#[derive(Clone, Copy, FromZeros)]
pub(crate) struct Block {
    pub(crate) frames: PageRange,
    /// Whether some of the frames are not preserved and must be freed later.
    pub(crate) gaps: bool,
    /// Whether the gap before this block is plain free memory.
    joinable: bool,
}

/// The blocks, ascending.
pub(crate) struct Plan {
    blocks: BootSlice<Block>,
    used: usize,
    /// Gaps of fewer pages than this are swallowed.
    swallow: u64,
}

impl Plan {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            blocks: BootSlice::new(HARD_LIMIT).ok_or(ENOMEM)?,
            used: 0,
            swallow: 0,
        })
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        self.blocks.get(..self.used).unwrap_or(&[])
    }

    /// Declares that the gaps of block number `index` must not be freed.
    pub(crate) fn keep_gaps(&mut self, index: usize) {
        if let Some(block) = self.blocks.get_mut(index) {
            block.gaps = false;
        }
    }

    /// Adds a range above all others. `plain` says whether a gap is free memory of one kind that
    /// may be reserved along and freed later.
    ///
    /// # Errors
    ///
    /// [`E2BIG`] when there are too many blocks that cannot be joined.
    pub(crate) fn push(
        &mut self,
        range: PageRange,
        mut plain: impl FnMut(PageRange) -> bool,
    ) -> Result {
        let mut joinable = false;
        if let Some(last) = self
            .used
            .checked_sub(1)
            .and_then(|i| self.blocks.get_mut(i))
        {
            let gap = PageRange::between(last.frames.end, range.start);
            joinable = plain(gap);
            if joinable && gap.pages() < self.swallow.min(TINY) {
                last.frames.end = range.end;
                last.gaps = true;
                return Ok(());
            }
        }
        if self.used >= SOFT_LIMIT {
            self.compact();
        }
        let slot = self.blocks.get_mut(self.used).ok_or(E2BIG)?;
        *slot = Block {
            frames: range,
            gaps: false,
            joinable,
        };
        self.used += 1;
        Ok(())
    }

    /// Swallows the narrowest gaps, ever wider ones, until few enough blocks are left, or no gap is
    /// that could be swallowed.
    fn compact(&mut self) {
        while self.used > TARGET {
            let narrowest = self
                .blocks()
                .windows(2)
                .filter_map(|pair| match pair {
                    [a, b] if b.joinable => Some(b.frames.start.raw() - a.frames.end.raw()),
                    _ => None,
                })
                .min();
            let Some(narrowest) = narrowest else { return };
            if narrowest >= self.swallow {
                // By a quarter more, so that the number of passes stays small.
                self.swallow = (narrowest + 1).max(self.swallow + self.swallow / 4);
            }
            self.join();
        }
    }

    /// Joins neighbours whose gap is narrower than `swallow`, as long as there are too many blocks.
    fn join(&mut self) {
        let mut excess = self.used.saturating_sub(TARGET);
        let mut kept = 0;
        for i in 1..self.used {
            let (Some(block), Some(last)) =
                (self.blocks.get(i).copied(), self.blocks.get(kept).copied())
            else {
                break;
            };
            let gap = PageRange::between(last.frames.end, block.frames.start);
            let joined = if block.joinable && excess > 0 && gap.pages() < self.swallow {
                excess -= 1;
                Block {
                    frames: PageRange::between(last.frames.start, block.frames.end),
                    gaps: true,
                    joinable: last.joinable,
                }
            } else {
                kept += 1;
                block
            };
            if let Some(slot) = self.blocks.get_mut(kept) {
                *slot = joined;
            }
        }
        self.used = self.used.min(kept + 1);
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_plan))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;
    use crate::kho::addr::Pfn;

    fn range(start: u64, pages: u64) -> PageRange {
        PageRange::new(Pfn::new(start), pages)
    }

    #[test]
    fn few_ranges_stay_as_they_are() {
        let Ok(mut plan) = Plan::new() else { return };
        for i in 0..100 {
            assert!(plan.push(range(i * 10, 3), |_| true).is_ok());
        }
        assert!(plan.blocks().len() == 100);
        assert!(plan.blocks().iter().all(|b| !b.gaps));
    }

    #[test]
    fn many_ranges_are_joined_over_their_narrow_gaps() {
        let Ok(mut plan) = Plan::new() else { return };
        // Every second page of a long stretch, then, far away, a lone page.
        for i in 0..100_000 {
            assert!(plan.push(range(i * 2, 1), |_| true).is_ok());
        }
        assert!(plan.push(range(1 << 30, 1), |_| true).is_ok());
        let blocks = plan.blocks();
        assert!(blocks.len() <= SOFT_LIMIT + 1);
        assert!(blocks.first().map(|b| b.frames.start) == Some(Pfn::new(0)));
        assert!(blocks.last().map(|b| (b.frames, b.gaps)) == Some((range(1 << 30, 1), false)));
        assert!(blocks
            .windows(2)
            .all(|w| w[0].frames.end < w[1].frames.start));
    }

    #[test]
    fn no_more_is_withheld_than_must_be() {
        // Blocks a thousand pages apart, twice as many as there may be: half the gaps go, not all.
        let Ok(mut plan) = Plan::new() else { return };
        let count = 2 * SOFT_LIMIT as u64;
        for i in 0..count {
            assert!(plan.push(range(i * 1001, 1), |_| true).is_ok());
        }
        let reserved: u64 = plan.blocks().iter().map(|b| b.frames.pages()).sum();
        assert!(plan.blocks().len() >= TARGET);
        assert!(reserved <= (count - TARGET as u64) * 1001 + count);
    }

    #[test]
    fn gaps_that_are_not_plain_stay_out() {
        let Ok(mut plan) = Plan::new() else { return };
        for i in 0..HARD_LIMIT as u64 {
            assert!(plan.push(range(i * 2, 1), |_| false).is_ok());
        }
        assert!(plan.blocks().iter().all(|b| b.frames.pages() == 1));
        assert!(plan.push(range(1 << 30, 1), |_| false).is_err());
    }
}
