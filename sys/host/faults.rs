// SPDX-License-Identifier: GPL-2.0

//! Which allocations of the simulated machine fail.

/// When an allocation fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The number of the allocation, from 0, that fails.
    pub(crate) nth: Option<u64>,
    /// Every allocation from that number on fails.
    pub(crate) from: Option<u64>,
    /// Allocations of orders above this one fail: memory is fragmented.
    pub(crate) above: Option<u32>,
    /// Some allocations fail, as a seed has it.
    pub(crate) rate: Option<Rate>,
}

impl Faults {
    /// Whether allocation `number`, of so many pages, fails.
    pub(super) fn hit(&mut self, number: u64, pages: u64) -> bool {
        self.nth == Some(number)
            || self.from.is_some_and(|from| number >= from)
            || self.above.is_some_and(|above| pages > 1 << above)
            || self.rate.as_mut().is_some_and(Rate::hits)
    }
}

/// Failure of one allocation in so many, the same ones for the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    state: u64,
    one_in: u64,
}

impl Rate {
    pub(crate) fn new(seed: u64, one_in: u64) -> Self {
        Self {
            state: seed,
            one_in,
        }
    }

    /// Whether it is the turn of the next allocation.
    fn hits(&mut self) -> bool {
        // SplitMix64: good enough, and the whole of it is here.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % self.one_in.max(1) == 0
    }
}
