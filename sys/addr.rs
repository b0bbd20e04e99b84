// SPDX-License-Identifier: GPL-2.0

//! Typed addresses: physical addresses, page frame numbers, orders, and ranges of frames.

use crate::sys::PAGE_SHIFT;
use zerocopy_derive::FromZeros;

/// A physical address in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PhysAddr(u64);

impl PhysAddr {
    pub(crate) const fn new(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// The frame that holds this address.
    pub(crate) const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// Whether the address is the first byte of a page frame.
    pub(crate) const fn is_page_aligned(self) -> bool {
        self.0 & ((1 << PAGE_SHIFT) - 1) == 0
    }
}

/// A page frame number: a physical address divided by the page size.
///
/// # Invariants
///
/// Less than or equal to [`Pfn::LIMIT`], so that the address of a frame, and the sum of a frame
/// number and a length below the limit, never overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromZeros)]
pub(crate) struct Pfn(u64);

impl Pfn {
    /// One past the last frame that a 64-bit physical address can name.
    pub(crate) const LIMIT: u64 = 1 << (64 - PAGE_SHIFT);

    /// A frame number, cut to the limit; no memory exists there, and every check says so.
    pub(crate) const fn new(raw: u64) -> Self {
        Self(if raw > Self::LIMIT { Self::LIMIT } else { raw })
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// Address of the frame's first byte.
    pub(crate) const fn phys(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame `pages` further on.
    pub(crate) const fn plus(self, pages: u64) -> Self {
        Self::new(self.0.saturating_add(pages))
    }

    /// The largest order of a naturally aligned block that starts at this frame.
    pub(crate) const fn alignment(self) -> u32 {
        self.0.trailing_zeros()
    }
}

/// The base-2 logarithm of a number of pages.
///
/// # Invariants
///
/// At most [`Order::MAX`]. Not capped at the buddy allocator's largest order: a contiguous range is
/// recorded in the largest blocks that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order(u32);

impl Order {
    /// One page.
    pub(crate) const ZERO: Self = Self(0);
    /// The largest order a key can express: all of the address space.
    pub(crate) const MAX: u32 = 64 - PAGE_SHIFT;
    /// The same, as an order.
    #[cfg(any(CONFIG_LIVEUPDATE_MEMFD, not(kernel)))]
    pub(crate) const LARGEST: Self = Self(Self::MAX);

    pub(crate) const fn new(raw: u32) -> Option<Self> {
        if raw <= Self::MAX {
            Some(Self(raw))
        } else {
            None
        }
    }

    pub(crate) const fn raw(self) -> u32 {
        self.0
    }

    /// Pages in a block of this order.
    pub(crate) const fn pages(self) -> u64 {
        1 << self.0
    }
}

/// A half-open range of page frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
pub(crate) struct PageRange {
    pub(crate) start: Pfn,
    pub(crate) end: Pfn,
}

impl PageRange {
    /// `pages` frames from `start` on.
    pub(crate) const fn new(start: Pfn, pages: u64) -> Self {
        Self {
            start,
            end: start.plus(pages),
        }
    }

    /// The frames between two bounds; empty when they are the wrong way round.
    pub(crate) const fn between(start: Pfn, end: Pfn) -> Self {
        Self {
            start,
            end: if end.0 < start.0 { start } else { end },
        }
    }

    pub(crate) const fn pages(self) -> u64 {
        self.end.0 - self.start.0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.end.0 <= self.start.0
    }

    /// Whether every frame of `other` is in this range.
    pub(crate) fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two ranges share a frame.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}
