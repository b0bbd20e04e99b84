// SPDX-License-Identifier: GPL-2.0

//! Scratch areas: memory that is never preserved, where the next kernel can boot.
//!
//! The list that is handed over is an array of (address, size) pairs of native-endian u64. The
//! first is low memory, the second is anywhere, then one a NUMA node; empty ones have size zero.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::addr::{PageRange, Pfn, PhysAddr};
use super::scratch_args::Sizing;
use crate::sys::error::{Result, ENOMEM};
use crate::sys::{early, log, Where, MAX_NODES, PAGE_SHIFT, SCRATCH_ALIGN};

/// Bytes of one entry of a handed-over list.
const ENTRY: usize = 16;

/// Areas there can be: low, global, and one a node.
pub(crate) const MAX_AREAS: usize = MAX_NODES + 2;

/// One area, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) start: PhysAddr,
    pub(crate) size: u64,
}

impl Area {
    pub(crate) fn frames(self) -> PageRange {
        PageRange::new(self.start.pfn(), self.size >> PAGE_SHIFT)
    }
}

/// This machine's scratch areas.
///
/// Filled while one processor boots, read without a lock from then on. It is a copy: what the
/// previous kernel handed over is read once, checked, and never looked at again.
pub(crate) struct List {
    /// Address and size: the layout that is handed over.
    entries: [[AtomicU64; 2]; MAX_AREAS],
    used: AtomicUsize,
}

/// Why a handed-over list is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadList {
    /// This many bytes are not a list of 1 to [`MAX_AREAS`] entries.
    Length(usize),
    /// The area with this address is not aligned to pages, or leaves the address space.
    Bounds(PhysAddr),
    /// The area with this address is not RAM.
    NotRam(PhysAddr),
    /// The area with this address overlaps another.
    Overlap(PhysAddr),
    /// No area has any memory.
    Empty,
}

impl log::Display for BadList {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length(len) => write!(f, "scratch list has an impossible length of {len} bytes"),
            Self::Bounds(at) => write!(f, "scratch area {:#x} is misaligned or too long", at.raw()),
            Self::NotRam(at) => write!(f, "scratch area {:#x} is not RAM", at.raw()),
            Self::Overlap(at) => write!(f, "scratch area {:#x} overlaps another", at.raw()),
            Self::Empty => write!(f, "scratch areas are all empty"),
        }
    }
}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            entries: [const { [const { AtomicU64::new(0) }; 2] }; MAX_AREAS],
            used: AtomicUsize::new(0),
        }
    }

    /// The areas, empty ones included.
    pub(crate) fn areas(&self) -> impl Iterator<Item = Area> + '_ {
        let used = self.used.load(Ordering::Acquire);
        self.entries.iter().take(used).map(|[start, size]| Area {
            start: PhysAddr::new(start.load(Ordering::Relaxed)),
            size: size.load(Ordering::Relaxed),
        })
    }

    /// The entries as handed over, for the kexec code to copy.
    pub(crate) fn entries(&self) -> &[[AtomicU64; 2]] {
        let used = self.used.load(Ordering::Acquire);
        self.entries.get(..used).unwrap_or(&[])
    }

    /// Forgets all areas.
    pub(crate) fn clear(&self) {
        self.used.store(0, Ordering::Release);
    }

    /// Whether `size` bytes from `start` on touch an area.
    pub(crate) fn overlaps(&self, start: PhysAddr, size: u64) -> bool {
        let end = start.raw().saturating_add(size);
        self.areas().any(|area| {
            start.raw() < area.start.raw().saturating_add(area.size) && end > area.start.raw()
        })
    }

    /// The first frame at or after `range.start` that belongs to scratch, if `range` touches any.
    pub(crate) fn first_in(&self, range: PageRange) -> Option<Pfn> {
        self.areas()
            .map(Area::frames)
            .filter(|area| area.overlaps(range))
            .map(|area| area.start.max(range.start))
            .min()
    }

    /// The stretch around `at` that no area touches; empty if `at` is in one.
    pub(crate) fn clear_around(&self, at: Pfn) -> PageRange {
        let mut clear = PageRange::between(Pfn::new(0), Pfn::new(Pfn::LIMIT));
        for area in self.areas().map(Area::frames).filter(|a| !a.is_empty()) {
            if area.start > at {
                clear.end = clear.end.min(area.start);
            } else if area.end <= at {
                clear.start = clear.start.max(area.end);
            } else {
                return PageRange::new(at, 0);
            }
        }
        clear
    }

    /// Sizes in MiB, in the order of the argument.
    pub(crate) fn describe(&self) -> impl log::Display + '_ {
        Sizes(self)
    }

    fn push(&self, area: Area) -> Result {
        let used = self.used.load(Ordering::Relaxed);
        let [start, size] = self.entries.get(used).ok_or(ENOMEM)?;
        start.store(area.start.raw(), Ordering::Relaxed);
        size.store(area.size, Ordering::Relaxed);
        self.used.store(used + 1, Ordering::Release);
        Ok(())
    }

    /// Takes over the list of the previous kernel, checked.
    ///
    /// # Errors
    ///
    /// The first fault found; the list is empty then.
    pub(crate) fn adopt(&self, bytes: &[u8]) -> core::result::Result<(), BadList> {
        let length = BadList::Length(bytes.len());
        self.clear();
        let checked = (|| {
            if bytes.is_empty() || bytes.len() % ENTRY != 0 {
                return Err(length);
            }
            for entry in bytes.chunks_exact(ENTRY) {
                self.push(self.check(entry).ok_or(length)??)
                    .map_err(|_| length)?;
            }
            if self.areas().all(|area| area.size == 0) {
                return Err(BadList::Empty);
            }
            Ok(())
        })();
        if checked.is_err() {
            self.clear();
        }
        checked
    }

    /// Checks one entry against those before it.
    fn check(&self, entry: &[u8]) -> Option<core::result::Result<Area, BadList>> {
        let (start, rest) = entry.split_first_chunk()?;
        let (size, _) = rest.split_first_chunk()?;
        let area = Area {
            start: PhysAddr::new(u64::from_ne_bytes(*start)),
            size: u64::from_ne_bytes(*size),
        };
        let whole = area.start.is_page_aligned()
            && PhysAddr::new(area.size).is_page_aligned()
            && area.start.raw().checked_add(area.size).is_some();
        Some(if area.size == 0 {
            // Wherever it says it is: it is nowhere, and touches nothing.
            Ok(Area {
                start: PhysAddr::new(0),
                size: 0,
            })
        } else if !whole {
            Err(BadList::Bounds(area.start))
        } else if !early::firmware_says_ram(area.start, area.size) {
            Err(BadList::NotRam(area.start))
        } else if self.overlaps(area.start, area.size) {
            Err(BadList::Overlap(area.start))
        } else {
            Ok(area)
        })
    }

    /// Reserves this machine's areas on a cold boot.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], said in the log with the number to lower; nothing stays reserved.
    pub(crate) fn reserve(&self, sizing: Sizing) -> Result {
        self.clear();
        let reserved = self.reserve_all(sizing);
        if reserved.is_err() {
            for area in self.areas() {
                early::free(area.start, area.size);
            }
            self.clear();
        }
        reserved
    }

    fn reserve_all(&self, sizing: Sizing) -> Result {
        let (low, global) = match sizing {
            Sizing::Percent(percent) => {
                let low = scale(early::kernel_bytes(Where::Low), percent);
                let all = scale(early::kernel_bytes(Where::Anywhere), percent);
                (low, all.saturating_sub(low))
            }
            Sizing::Bytes { low, global, .. } => (low, global),
        };
        self.reserve_one(low, Where::Low, "low memory (the first number)")?;
        self.reserve_one(global, Where::Anywhere, "global (the second number)")?;
        for node in early::memory_nodes() {
            let place = Where::Node(node);
            let bytes = match sizing {
                Sizing::Percent(percent) => scale(early::kernel_bytes(place), percent),
                Sizing::Bytes { per_node, .. } => per_node,
            };
            self.reserve_one(bytes, place, "per-node (the third number)")?;
        }
        Ok(())
    }

    fn reserve_one(&self, bytes: u64, place: Where, what: &str) -> Result {
        let size = bytes
            .checked_next_multiple_of(SCRATCH_ALIGN)
            .ok_or(ENOMEM)?;
        let start = if size == 0 {
            PhysAddr::new(0)
        } else {
            early::alloc(size, SCRATCH_ALIGN, place).ok_or_else(|| {
                log::pr_err!(
                    "cannot reserve {} MiB of scratch, {}: lower it in kho_scratch=LOW,GLOBAL,PERNODE\n",
                    size >> 20,
                    what
                );
                ENOMEM
            })?
        };
        self.push(Area { start, size })
    }
}

/// `percent` of `bytes`.
fn scale(bytes: u64, percent: u32) -> u64 {
    let percent = u64::from(percent);
    let whole = (bytes / 100).saturating_mul(percent);
    whole.saturating_add(bytes % 100 * percent / 100)
}

struct Sizes<'a>(&'a List);

impl log::Display for Sizes<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut comma = "";
        self.0.areas().try_for_each(|area| {
            write!(f, "{comma}{}M", area.size >> 20)?;
            comma = ",";
            Ok(())
        })
    }
}
