// SPDX-License-Identifier: GPL-2.0

//! Radix keys of "kho-v4": one number that holds a block's order and its place.
//!
//! With `shift = PAGE_SHIFT + order`, a key is `1 << (64 - shift) | address >> shift`. So all keys
//! of one order are neighbours, in address order, and a run of blocks of one order is a run of
//! keys. (Layout: include/linux/kho/abi/kexec_handover.h.)

use super::addr::{Order, PageRange, Pfn};
use crate::sys::PAGE_SHIFT;

/// Width of the widest key in bits: a frame number and the order bit above it.
pub(crate) const KEY_BITS: u32 = 64 - PAGE_SHIFT + 1;

/// The key of the block of `order` that holds `pfn`.
pub(crate) const fn encode(pfn: Pfn, order: Order) -> u64 {
    first_of_order(order) | (pfn.raw() >> order.raw())
}

/// The smallest key of an order: the block at address zero.
pub(crate) const fn first_of_order(order: Order) -> u64 {
    1 << (Order::MAX - order.raw())
}

/// One past the largest key of an order.
pub(crate) const fn end_of_order(order: Order) -> u64 {
    first_of_order(order) << 1
}

/// The order that a key says, or `None` for numbers that are no key.
pub(crate) const fn order_of(key: u64) -> Option<Order> {
    if key == 0 {
        return None;
    }
    match Order::MAX.checked_sub(key.ilog2()) {
        Some(order) => Order::new(order),
        None => None,
    }
}

/// First frame of the block that `key`, of order `order`, stands for.
pub(crate) const fn pfn_of(key: u64, order: Order) -> Pfn {
    Pfn::new((key & (first_of_order(order) - 1)) << order.raw())
}

/// Consecutive keys of one order: a physically contiguous run of equal blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) len: u64,
}

impl Run {
    /// The keys of `count` blocks of `order` from `pfn` on; `None` if that leaves the address space
    /// or `pfn` is not aligned to the order.
    pub(crate) fn new(pfn: Pfn, order: Order, count: u64) -> Option<Self> {
        let first = encode(pfn, order);
        let end = first.checked_add(count)?;
        (pfn.alignment() >= order.raw() && end <= end_of_order(order))
            .then_some(Self { first, len: count })
    }

    /// One past the last key.
    pub(crate) const fn end(self) -> u64 {
        self.first.saturating_add(self.len)
    }

    /// The frames of the run, whose keys are of order `order`.
    pub(crate) fn frames(self, order: Order) -> PageRange {
        PageRange::new(pfn_of(self.first, order), self.len << order.raw())
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_key))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn known_keys() {
        // From the ABI header's table, for 4 KiB pages: order 0 has its bit at 52, order 9 at 43.
        let order9 = Order::new(9);
        assert!(encode(Pfn::new(0), Order::ZERO) == 1 << Order::MAX);
        assert!(encode(Pfn::new(0x12345), Order::ZERO) == (1 << Order::MAX) | 0x12345);
        assert!(order9.map(|o| encode(Pfn::new(0x400), o)) == Some((1 << (Order::MAX - 9)) | 2));
    }

    #[test]
    fn round_trip() {
        for raw in 0..=Order::MAX {
            let Some(order) = Order::new(raw) else {
                continue;
            };
            let place = if raw > 40 { 0 } else { 5u64 << raw };
            let key = encode(Pfn::new(place), order);
            assert!(order_of(key) == Some(order));
            assert!(pfn_of(key, order) == Pfn::new(place));
        }
    }

    #[test]
    fn not_keys() {
        assert!(order_of(0).is_none());
        assert!(order_of(1 << KEY_BITS).is_none());
        assert!(order_of(u64::MAX).is_none());
        // A run must be aligned and stay among the keys of its order.
        let order1 = Order::new(1);
        assert!(order1.and_then(|o| Run::new(Pfn::new(3), o, 1)).is_none());
        assert!(Run::new(Pfn::new(Pfn::LIMIT - 1), Order::ZERO, 2).is_none());
        assert!(Run::new(Pfn::new(1), Order::ZERO, u64::MAX).is_none());
    }
}
