// SPDX-License-Identifier: GPL-2.0

//! The memory that the next kernel will have when it takes over: a short list of stretches.
//!
//! It is the map that is handed over, which may be less than this kernel has: memory that was added
//! while it ran is found by the next one only when its drivers run, long after it took over. And it
//! may be made less by the next kernel's command line.

use super::addr::{PageRange, Pfn};
use crate::sys::boot_mem::BootSlice;
use crate::sys::early;
use crate::sys::error::{Result, E2BIG, ENOMEM};

/// Stretches there can be.
const MOST: usize = 256;

/// The list: ascending, and with gaps between neighbours.
pub(crate) struct Ram {
    list: BootSlice<PageRange>,
    used: usize,
}

impl Ram {
    /// The memory of the map that is handed over.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], [`E2BIG`] for a map of too many stretches.
    pub(crate) fn handed_over() -> Result<Self> {
        let mut ram = Self::none()?;
        for range in early::handed_ram() {
            ram.add(range)?;
        }
        Ok(ram)
    }

    /// No memory at all.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn none() -> Result<Self> {
        let list = BootSlice::new(MOST).ok_or(ENOMEM)?;
        Ok(Self { list, used: 0 })
    }

    /// The stretches.
    pub(crate) fn ranges(&self) -> &[PageRange] {
        self.list.get(..self.used).unwrap_or(&[])
    }

    /// Forgets all of it.
    #[cfg_attr(not(CONFIG_LIVEUPDATE), allow(dead_code))]
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// Adds memory, some of which may be there already.
    ///
    /// # Errors
    ///
    /// [`E2BIG`] when the list is full; it is as it was.
    pub(crate) fn add(&mut self, range: PageRange) -> Result {
        if range.is_empty() {
            return Ok(());
        }
        let ranges = self.ranges();
        let first = ranges.partition_point(|have| have.end < range.start);
        let after = ranges.partition_point(|have| have.start <= range.end);
        let joined = match (ranges.get(first), after.checked_sub(1)) {
            (Some(low), Some(last)) if first < after => {
                let high = ranges.get(last).map_or(range.end, |have| have.end);
                PageRange::between(low.start.min(range.start), high.max(range.end))
            }
            _ => range,
        };
        self.replace(first, after, [Some(joined), None])
    }

    /// Takes memory off.
    ///
    /// # Errors
    ///
    /// [`E2BIG`] when the list is full; it is as it was.
    #[cfg_attr(not(CONFIG_LIVEUPDATE), allow(dead_code))]
    pub(crate) fn remove(&mut self, range: PageRange) -> Result {
        if range.is_empty() {
            return Ok(());
        }
        let ranges = self.ranges();
        let first = ranges.partition_point(|have| have.end <= range.start);
        let after = ranges.partition_point(|have| have.start < range.end);
        if first >= after {
            return Ok(());
        }
        let below = ranges.get(first).map(|have| have.start);
        let above = ranges.get(after - 1).map(|have| have.end);
        let some = |range: PageRange| Some(range).filter(|range| !range.is_empty());
        let below = below.and_then(|start| some(PageRange::between(start, range.start)));
        let above = above.and_then(|end| some(PageRange::between(range.end, end)));
        let rest = match below {
            Some(below) => [Some(below), above],
            None => [above, None],
        };
        self.replace(first, after, rest)
    }

    /// Puts what is in `by` in place of the stretches from `first` up to `after`.
    fn replace(&mut self, first: usize, after: usize, by: [Option<PageRange>; 2]) -> Result {
        let new = by.iter().flatten().count();
        let used = (self.used + new)
            .checked_sub(after.saturating_sub(first))
            .ok_or(E2BIG)?;
        if used > MOST {
            return Err(E2BIG);
        }
        self.list
            .copy_within(after.max(first)..self.used, first + new);
        let places = self.list.iter_mut().skip(first);
        for (place, range) in places.zip(by.into_iter().flatten()) {
            *place = range;
        }
        self.used = used;
        Ok(())
    }

    /// The first frame of a range that is not there.
    pub(crate) fn lacks(&self, range: PageRange) -> Option<Pfn> {
        let around = self.around(range.start);
        if around.contains(range) && !around.is_empty() {
            None
        } else {
            Some(around.end.max(range.start))
        }
    }

    /// The stretch around a frame; empty if it is not there.
    pub(crate) fn around(&self, at: Pfn) -> PageRange {
        let ranges = self.ranges();
        let next = ranges.partition_point(|have| have.end <= at);
        match ranges.get(next) {
            Some(have) if have.start <= at => *have,
            _ => PageRange::new(at, 0),
        }
    }
}

/// The stretch around a frame of the map that is handed over; empty if it is not there. Without
/// memory for a list.
pub(crate) fn handed_around(at: Pfn) -> PageRange {
    let touching = |range: PageRange, known: PageRange| {
        range.start <= known.end && range.end >= known.start && !range.is_empty()
    };
    let holds = |range: &PageRange| range.start <= at && at < range.end;
    let mut known = match early::handed_ram().find(holds) {
        Some(known) => known,
        None => return PageRange::new(at, 0),
    };
    // Neighbours are joined, whatever order they stand in.
    loop {
        let wider = early::handed_ram()
            .filter(|range| touching(*range, known))
            .fold(known, |all, range| {
                PageRange::between(all.start.min(range.start), all.end.max(range.end))
            });
        if wider == known {
            return known;
        }
        known = wider;
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_ram))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::between(Pfn::new(start), Pfn::new(end))
    }

    fn is(ram: &Ram, expected: &[(u64, u64)]) -> bool {
        let expected = expected.iter().map(|&(start, end)| range(start, end));
        ram.ranges().iter().copied().eq(expected)
    }

    #[test]
    fn stretches_are_joined_and_cut() {
        let Ok(mut ram) = Ram::none() else { return };
        for (start, end) in [(10, 20), (40, 50), (20, 30), (60, 70), (5, 5)] {
            assert!(ram.add(range(start, end)).is_ok());
        }
        assert!(is(&ram, &[(10, 30), (40, 50), (60, 70)]));
        assert!(ram.remove(range(15, 18)).is_ok());
        assert!(is(&ram, &[(10, 15), (18, 30), (40, 50), (60, 70)]));
        assert!(ram.remove(range(28, 65)).is_ok());
        assert!(is(&ram, &[(10, 15), (18, 28), (65, 70)]));
        assert!(ram.remove(range(0, 15)).is_ok() && ram.remove(range(30, 60)).is_ok());
        assert!(is(&ram, &[(18, 28), (65, 70)]));
        assert!(ram.add(range(1, 100)).is_ok());
        assert!(is(&ram, &[(1, 100)]));
        ram.clear();
        assert!(is(&ram, &[]));
    }

    #[test]
    fn what_lacks_is_named() {
        let Ok(mut ram) = Ram::none() else { return };
        assert!(ram.add(range(10, 20)).is_ok() && ram.add(range(30, 40)).is_ok());
        assert!(ram.lacks(range(10, 20)).is_none());
        assert!(ram.lacks(range(15, 25)) == Some(Pfn::new(20)));
        assert!(ram.lacks(range(25, 35)) == Some(Pfn::new(25)));
        assert!(ram.lacks(range(39, 41)) == Some(Pfn::new(40)));
    }

    #[test]
    fn a_full_list_stays_as_it_was() {
        let Ok(mut ram) = Ram::none() else { return };
        for i in 0..MOST as u64 {
            assert!(ram.add(range(i * 10, i * 10 + 5)).is_ok());
        }
        assert!(ram.add(range(1_000_000, 1_000_001)).is_err());
        assert!(ram.remove(range(1, 2)).is_err());
        assert!(ram.ranges().len() == MOST);
        assert!(ram.add(range(5, 10)).is_ok());
        assert!(ram.ranges().len() == MOST - 1);
    }
}
