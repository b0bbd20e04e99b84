// SPDX-License-Identifier: GPL-2.0

//! How a contiguous range of pages is cut into blocks, each a key of its own.
//!
//! "kho-v4" fixes it: from the start on, always the largest naturally aligned power of two that
//! still fits, and never a block across NUMA nodes. A receiver that restores pages walks the same
//! cut, so changing it changes the format.

use super::addr::{Order, PageRange};

/// The blocks of a range in ascending order.
///
/// `same_node` says whether a block lies on one NUMA node.
pub(crate) struct Blocks<F> {
    rest: PageRange,
    same_node: F,
}

impl<F: FnMut(PageRange) -> bool> Blocks<F> {
    pub(crate) fn new(range: PageRange, same_node: F) -> Self {
        Self {
            rest: range,
            same_node,
        }
    }
}

impl<F: FnMut(PageRange) -> bool> Iterator for Blocks<F> {
    type Item = (super::addr::Pfn, Order);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let start = self.rest.start;
        let mut raw = start.alignment().min(self.rest.pages().ilog2());
        while raw > 0 && !(self.same_node)(PageRange::new(start, 1 << raw)) {
            raw -= 1;
        }
        let order = Order::new(raw)?;
        self.rest.start = start.plus(order.pages());
        Some((start, order))
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_pages))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;
    use crate::kho::addr::Pfn;

    fn orders(start: u64, pages: u64, boundary: u64) -> [u32; 8] {
        let mut found = [u32::MAX; 8];
        let range = PageRange::new(Pfn::new(start), pages);
        let cut = Blocks::new(range, |b| {
            b.end <= Pfn::new(boundary) || b.start >= Pfn::new(boundary)
        });
        for (slot, (_, order)) in found.iter_mut().zip(cut) {
            *slot = order.raw();
        }
        found
    }

    #[test]
    fn largest_aligned_blocks() {
        const NO: u32 = u32::MAX;
        assert!(orders(3, 14, 1 << 40) == [0, 2, 3, 0, NO, NO, NO, NO]);
        assert!(orders(0, 1 << 20, 1 << 40)[0] == 20);
        assert!(orders(8, 0, 1 << 40)[0] == NO);
    }

    #[test]
    fn nodes_are_not_crossed() {
        const NO: u32 = u32::MAX;
        assert!(orders(0, 16, 4) == [2, 2, 3, NO, NO, NO, NO, NO]);
        assert!(orders(0, 4, 3) == [1, 0, 0, NO, NO, NO, NO, NO]);
    }
}
