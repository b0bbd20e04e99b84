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
/// instructions a region, so this many cost less than a million in all.
const SOFT_LIMIT: usize = 256;

/// Blocks there can be when gaps cannot be swallowed: they hold memory holes, scratch, or memory
/// that firmware or this kernel has reserved.
const HARD_LIMIT: usize = 1024;

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
        if let Some(last) = self.used.checked_sub(1).and_then(|i| self.blocks.get_mut(i)) {
            let gap = PageRange::between(last.frames.end, range.start);
            joinable = plain(gap);
            if joinable && gap.pages() < self.swallow {
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

    /// Swallows ever wider gaps until half the soft limit is free, or none is left that could be.
    fn compact(&mut self) {
        while self.used > SOFT_LIMIT / 2 {
            let narrowest = self
                .blocks()
                .windows(2)
                .filter_map(|pair| match pair {
                    [a, b] if b.joinable => Some(b.frames.start.raw() - a.frames.end.raw()),
                    _ => None,
                })
                .min();
            let Some(narrowest) = narrowest else { return };
            self.swallow = (narrowest + 1).next_power_of_two().max(self.swallow);
            self.join();
        }
    }

    /// Joins neighbours whose gap is narrower than `swallow`.
    fn join(&mut self) {
        let mut kept = 0;
        for i in 1..self.used {
            let block = self.blocks[i];
            let last = &mut self.blocks[kept];
            let gap = PageRange::between(last.frames.end, block.frames.start);
            if block.joinable && gap.pages() < self.swallow {
                last.frames.end = block.frames.end;
                last.gaps = true;
            } else {
                kept += 1;
                self.blocks[kept] = block;
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
        assert!(blocks.windows(2).all(|w| w[0].frames.end < w[1].frames.start));
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
