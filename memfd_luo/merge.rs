// SPDX-License-Identifier: GPL-2.0

//! Extents become folios, as large as their places in memory and in the file allow.

use super::Run;
use crate::kho::addr::Order;

/// The folios that extents become.
///
/// Extents that go on where the one before ends are one. Each step takes the largest folio that is
/// aligned in memory and in the file and is not larger than `most`. Without `most` they stay what
/// they were.
#[derive(Clone)]
pub(super) struct Pieces<I, Z> {
    extents: I,
    most: Option<Order>,
    /// Zone of a frame: nothing is joined across two.
    zone: Z,
    /// The rest of the extent that was read; its order is 0, its count is pages.
    rest: Run,
    /// Read, but not a part of `rest`.
    ahead: Option<Run>,
}

impl<I: Iterator<Item = Run>, Z: Fn(u64) -> u32> Pieces<I, Z> {
    pub(super) fn new(extents: I, most: Option<Order>, zone: Z) -> Self {
        Self {
            extents,
            most,
            zone,
            rest: Run::NONE,
            ahead: None,
        }
    }

    fn read(&mut self) -> Option<Run> {
        self.ahead.take().or_else(|| self.extents.next())
    }

    /// Whether all of a run is in one zone, and in that of a frame.
    fn is_in(&self, run: &Run, zone: u32) -> bool {
        let last = run.pfn.raw() + run.pages() - 1;
        (self.zone)(run.pfn.raw()) == zone && (self.zone)(last) == zone
    }
}

impl<I: Iterator<Item = Run>, Z: Fn(u64) -> u32> Iterator for Pieces<I, Z> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let Some(most) = self.most else {
            return self.read();
        };
        if self.rest.count == 0 {
            let run = self.read()?;
            let zone = (self.zone)(run.pfn.raw());
            if run.count == 0 || !self.is_in(&run, zone) {
                return Some(run);
            }
            self.rest = Run {
                order: Order::ZERO,
                count: run.pages(),
                ..run
            };
            while let Some(next) = self.read() {
                let joins = next.count > 0
                    && next.filled == self.rest.filled
                    && self.rest.goes_on(next.pfn, next.index)
                    && self.is_in(&next, zone);
                if !joins {
                    self.ahead = Some(next);
                    break;
                }
                self.rest.count += next.pages();
            }
        }
        let rest = self.rest;
        let (index, pfn) = (rest.index, rest.pfn.raw());
        // No folio here can be larger: the two places never are both aligned to more.
        let never = index.wrapping_sub(pfn).trailing_zeros().min(most.raw());
        let now = (index | pfn).trailing_zeros();
        let order = never.min(now).min(rest.count.ilog2());
        let count = match order == never {
            true => rest.count >> order,
            false => 1,
        };
        let piece = Run {
            order: Order::new(order)?,
            count,
            ..rest
        };
        self.rest = rest.skip(piece.pages());
        Some(piece)
    }
}

#[cfg(all(test, not(kernel)))]
mod tests {
    use super::*;
    use crate::kho::addr::Pfn;
    use proptest::prelude::*;

    fn extents(shape: &[(u64, u64, u64, u32)]) -> Vec<Run> {
        let (mut pfn, mut index) = (1u64 << 20, 0u64);
        let mut all = Vec::new();
        for &(apart, gap, count, order) in shape {
            let size = 1 << order;
            pfn = (pfn + apart).next_multiple_of(size);
            index = (index + gap).next_multiple_of(size);
            all.push(Run {
                pfn: Pfn::new(pfn),
                index,
                order: Order::new(order).unwrap(),
                count,
                filled: true,
            });
            (pfn, index) = (pfn + count * size, index + count * size);
        }
        all
    }

    /// Each page of the file with its frame.
    fn places(runs: &[Run]) -> Vec<(u64, u64)> {
        let all = runs.iter();
        all.flat_map(|run| (0..run.pages()).map(|n| (run.index + n, run.pfn.raw() + n)))
            .collect()
    }

    proptest! {
        #[test]
        fn every_page_stays_where_it_is(
            shape in proptest::collection::vec((0u64..3, 0u64..3, 1u64..700, 0u32..4), 0..30),
            most in 0u32..10,
        ) {
            let extents = extents(&shape);
            let pieces: Vec<Run> =
                Pieces::new(extents.iter().copied(), Order::new(most), |pfn| (pfn >> 12) as u32).collect();
            prop_assert_eq!(places(&pieces), places(&extents));
            for piece in &pieces {
                let pages = piece.order.pages();
                prop_assert!(piece.count > 0);
                prop_assert!(piece.index % pages == 0 && piece.pfn.raw() % pages == 0);
            }
            let same: Vec<Run> = Pieces::new(extents.iter().copied(), None, |_| 0).collect();
            prop_assert_eq!(same, extents);
        }
    }

    #[test]
    fn a_large_extent_is_few_pieces() {
        let one = Run {
            pfn: Pfn::new(512 + 5),
            index: 5,
            order: Order::ZERO,
            count: 100_000,
            filled: true,
        };
        let pieces: Vec<Run> = Pieces::new([one].into_iter(), Order::new(9), |_| 0).collect();
        assert!(pieces.len() < 20, "{}", pieces.len());
        assert_eq!(pieces.iter().map(|p| p.order.raw()).max(), Some(9));
        // Never aligned in both.
        let odd = Run {
            pfn: Pfn::new(512),
            index: 1,
            ..one
        };
        assert_eq!(
            Pieces::new([odd].into_iter(), Order::new(9), |_| 0).count(),
            1
        );
    }
}
