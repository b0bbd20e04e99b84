// SPDX-License-Identifier: GPL-2.0

//! Placing the next kernel: its segments go into scratch, where nothing is ever preserved.

use super::addr::{PageRange, PhysAddr};
use super::scratch::{Area, List};
use crate::sys::{early, log, PAGE_SHIFT};

/// The answer of the caller's placement function for one area.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// A hole was found.
    Here,
    /// This area has none.
    No,
    /// The search failed; stop.
    Failed,
}

/// Tries one area after the other. True if the segment was placed.
///
/// Drivers may have memory for DMA in scratch, from the second kernel on: a device that goes on to
/// write there during the jump would write into the next kernel. So what is left of the areas comes
/// first.
pub(crate) fn place(list: &List, mut attempt: impl FnMut(Area) -> Placed) -> bool {
    for area in list.areas() {
        for piece in pieces(area.frames(), early::dma_areas) {
            match attempt(of(piece)) {
                Placed::Here => return true,
                Placed::Failed => return false,
                Placed::No => {}
            }
        }
    }
    for area in list.areas() {
        match attempt(area) {
            Placed::Here => {
                log::pr_warn!(
                    "the next kernel is placed over memory that drivers do DMA to: raise the second number of kho_scratch=, or lower cma=\n"
                );
                return true;
            }
            Placed::Failed => return false,
            Placed::No => {}
        }
    }
    false
}

fn of(range: PageRange) -> Area {
    Area {
        start: PhysAddr::new(range.start.raw() << PAGE_SHIFT),
        size: range.pages() << PAGE_SHIFT,
    }
}

/// What is left of a range without others, which may be in any order.
fn pieces<I: Iterator<Item = PageRange>>(
    range: PageRange,
    others: impl Fn() -> I,
) -> impl Iterator<Item = PageRange> {
    let mut from = range.start;
    core::iter::from_fn(move || {
        while from < range.end {
            let rest = PageRange::between(from, range.end);
            let next = others().filter(|other| other.overlaps(rest));
            let next = next.min_by_key(|other| other.start);
            let piece = PageRange::between(from, next.map_or(range.end, |next| next.start));
            from = next.map_or(range.end, |next| next.end);
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    })
}

/// Says which number to raise when a segment of `bytes` does not fit any area.
pub(crate) fn explain_no_room(list: &List, bytes: u64) {
    let largest = list.areas().map(|area| area.size).max().unwrap_or(0);
    log::pr_err!(
        "no scratch area has room for a segment of {} KiB (largest area: {} KiB); raise the second number of kho_scratch=LOW,GLOBAL,PERNODE on this kernel's command line (now {})\n",
        bytes.div_ceil(1024),
        largest / 1024,
        list.describe(),
    );
}

/// Warns when the next kernel is likely to run out of scratch while it boots: it will need about as
/// much early memory as this one did, next to the image itself.
pub(crate) fn warn_if_tight(list: &List, image_bytes: u64, early_bytes: u64) {
    let total: u64 = list.areas().map(|area| area.size).sum();
    let need = image_bytes.saturating_add(early_bytes);
    if total < need {
        log::pr_warn!(
            "scratch is tight: {} MiB in all, while this kernel used {} MiB in early boot and the next image takes {} MiB; the next kernel may hang without a word: raise kho_scratch=LOW,GLOBAL,PERNODE (now {})\n",
            total >> 20,
            early_bytes >> 20,
            image_bytes >> 20,
            list.describe(),
        );
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_kexec))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;
    use crate::kho::addr::Pfn;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::between(Pfn::new(start), Pfn::new(end))
    }

    #[test]
    fn what_drivers_have_is_left_out() {
        let left = |others: &[PageRange], expected: &[PageRange]| {
            let pieces = pieces(range(100, 200), || others.iter().copied());
            pieces.eq(expected.iter().copied())
        };
        assert!(left(&[], &[range(100, 200)]));
        assert!(left(&[range(0, 100), range(200, 300)], &[range(100, 200)]));
        assert!(left(&[range(0, 300)], &[]));
        let two = [range(190, 250), range(120, 130)];
        assert!(left(&two, &[range(100, 120), range(130, 190)]));
        let touching = [range(90, 110), range(110, 120), range(115, 140)];
        assert!(left(&touching, &[range(140, 200)]));
    }
}
