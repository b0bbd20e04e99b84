// SPDX-License-Identifier: GPL-2.0

//! Runs: folios of one order that are neighbours in memory and in the file.
//!
//! KHO and the page cache take a run at a time. A folio keeps its own key: a run of four pages is
//! four keys and never one larger block, since the next kernel restores folio by folio.

use super::Folio;
use crate::kho::addr::{Order, Pfn};

/// `count` folios of `order`, the first at `pfn` and page `index` of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) pfn: Pfn,
    pub(crate) index: u64,
    pub(crate) order: Order,
    pub(crate) count: u64,
    /// Whether the folios hold data; otherwise they are zeroed before use.
    pub(crate) filled: bool,
}

impl Run {
    pub(crate) const NONE: Self = Self {
        pfn: Pfn::new(0),
        index: 0,
        order: Order::ZERO,
        count: 0,
        filled: false,
    };

    /// Pages in all.
    pub(crate) const fn pages(&self) -> u64 {
        self.count << self.order.raw()
    }

    /// The run without its first `folios`.
    pub(crate) fn skip(&self, folios: u64) -> Self {
        let apart = folios << self.order.raw();
        Self {
            pfn: self.pfn.plus(apart),
            index: self.index.saturating_add(apart),
            count: self.count.saturating_sub(folios),
            ..*self
        }
    }

    /// The same pages in folios of `most`, if these are larger.
    pub(crate) fn cut(self, most: Order) -> Self {
        let apart = self.order.raw().saturating_sub(most.raw());
        Self {
            order: self.order.min(most),
            count: self.count << apart,
            ..self
        }
    }

    /// Whether a folio there, of the same kind, would be the run's next.
    pub(crate) fn goes_on(&self, pfn: Pfn, index: u64) -> bool {
        pfn == self.pfn.plus(self.pages()) && self.index.checked_add(self.pages()) == Some(index)
    }
}

/// The runs that folios in the order of the file form.
pub(crate) fn runs(folios: &[Folio]) -> impl Iterator<Item = Run> + Clone + '_ {
    let mut rest = folios;
    core::iter::from_fn(move || {
        let (first, mut more) = rest.split_first()?;
        let mut run = Run {
            pfn: first.pfn,
            index: first.index,
            order: first.order,
            count: 1,
            filled: true,
        };
        while let Some((next, after)) = more.split_first() {
            if next.order != run.order || !run.goes_on(next.pfn, next.index) {
                break;
            }
            run.count += 1;
            more = after;
        }
        rest = more;
        Some(run)
    })
}

#[cfg(all(test, not(kernel)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folios(shape: &[(bool, bool, u32)]) -> Vec<Folio> {
        let (mut pfn, mut index) = (Pfn::new(1 << 10), 0u64);
        let mut all = Vec::new();
        for &(apart, gap, order) in shape {
            let order = Order::new(order).unwrap();
            let up = |place: u64| place.next_multiple_of(order.pages());
            pfn = Pfn::new(up(pfn.raw() + u64::from(apart)));
            index = up(index + u64::from(gap));
            all.push(Folio { pfn, index, order });
            (pfn, index) = (pfn.plus(order.pages()), index + order.pages());
        }
        all
    }

    proptest! {
        /// Taken apart again, runs are the folios; and none could have been longer.
        #[test]
        fn runs_are_their_folios(
            shape in proptest::collection::vec((prop::bool::weighted(0.2), prop::bool::weighted(0.1), 0u32..3), 0..80)
        ) {
            let folios = folios(&shape);
            let runs: Vec<Run> = runs(&folios).collect();
            let apart: Vec<Folio> = runs
                .iter()
                .flat_map(|run| (0..run.count).map(move |n| Folio {
                    pfn: run.pfn.plus(n << run.order.raw()),
                    index: run.index + (n << run.order.raw()),
                    order: run.order,
                }))
                .collect();
            prop_assert_eq!(apart, folios);
            for pair in runs.windows(2) {
                let joins = pair[0].goes_on(pair[1].pfn, pair[1].index);
                prop_assert!(!joins || pair[0].order != pair[1].order);
            }
        }
    }
}
