// SPDX-License-Identifier: GPL-2.0

//! Links between preserved pages that carry a check of themselves.
//!
//! A page's address leaves the low bits of a word free. They hold a check of the address and of the
//! place the link stands in, so that a link with a wrong bit, and one that belongs elsewhere, is no
//! link: it never leads into somebody else's memory. It is one word, so a link is there or it is
//! not, at whatever moment a kernel stops.

use core::sync::atomic::{compiler_fence, Ordering};

use super::addr::PhysAddr;
use crate::sys::Frame;

/// Bits of the check: the offset within a page, of the smallest there are.
const CHECK_BITS: u32 = 12;
const CHECK: u64 = (1 << CHECK_BITS) - 1;

/// An odd number without pattern, 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Sums up, 12 bits at a time: each bit of the word changes one bit of the check.
fn check(phys: PhysAddr, place: u64) -> u64 {
    let mut rest = (phys.raw() >> CHECK_BITS) ^ place.wrapping_add(1).wrapping_mul(FACTOR);
    let mut sum = 0;
    while rest != 0 {
        sum ^= rest & CHECK;
        rest >>= CHECK_BITS;
    }
    sum
}

/// The link to a page from a place, whatever number that has.
pub(crate) fn to(page: Frame, place: u64) -> u64 {
    page.phys().raw() | check(page.phys(), place)
}

/// Where a link of this kernel's own leads; `None` for zero, which is no link.
pub(crate) fn target(link: u64) -> Option<Frame> {
    Frame::at(PhysAddr::new(link & !CHECK))
}

/// Where a link that was handed over leads, if it was made for this place.
pub(crate) fn judge(link: u64, place: u64) -> Option<PhysAddr> {
    let phys = PhysAddr::new(link & !CHECK);
    (phys.is_page_aligned() && link & CHECK == check(phys, place)).then_some(phys)
}

/// Orders what is written before against what is written after: other kernels see the words of one
/// CPU as it left them when it was stopped, in the order in which it executed.
pub(crate) fn commit() {
    compiler_fence(Ordering::SeqCst);
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_link))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn no_bit_can_be_wrong() {
        for (at, place) in [(0x12345000, 0), (0x1000, 77), (0xf_ffff_f000, u64::MAX)] {
            let phys = PhysAddr::new(at);
            let link = at | check(phys, place);
            assert!(judge(link, place) == Some(phys));
            for bit in 0..64 {
                assert!(judge(link ^ 1 << bit, place).is_none());
            }
        }
    }

    #[test]
    fn links_stay_in_their_place() {
        let link = 0x5000 | check(PhysAddr::new(0x5000), 4);
        let others = (0..4096).filter(|&place| judge(link, place).is_some());
        assert!(others.count() < 8);
    }
}
