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
