// SPDX-License-Identifier: GPL-2.0

//! The named blobs of a handover: which of them lie in preserved memory.
//!
//! Judged along with the tree, when it still is as it was handed over: later, memory that was
//! preserved may have been given out already, and blobs are asked for before there is an
//! [`Incoming`](super::incoming::Incoming).

use core::ffi::CStr;

use super::addr::{Order, PageRange, PhysAddr};
use super::fdt::{self, Subtree};
use crate::sys::boot_mem::BootSlice;
use crate::sys::error::{Result, EINVAL, ENOMEM};
use crate::sys::fdt::Blob;
use crate::sys::{early, log, PAGE_SHIFT};
use zerocopy_derive::FromZeros;

/// Where a blob lies, and whether all of that is preserved.
#[derive(Clone, Copy, FromZeros)]
struct Place {
    frames: PageRange,
    preserved: bool,
}

/// The blobs of one FDT.
pub(crate) struct Subtrees {
    /// Ascending; `None` if there are none.
    places: Option<BootSlice<Place>>,
    /// The first of them that no range has been compared with.
    next: usize,
}

impl Subtrees {
    /// Lists where the FDT says that blobs are; none is known to be preserved yet.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn list(fdt: &Blob<'_>) -> Result<Self> {
        // Two that cannot be frames are no loss: nobody gets them.
        let found = || fdt::subtrees(fdt).filter_map(frames);
        let count = found().count();
        let mut places = match count {
            0 => None,
            _ => Some(BootSlice::<Place>::new(count).ok_or(ENOMEM)?),
        };
        if let Some(places) = places.as_mut() {
            for (place, frames) in places.iter_mut().zip(found()) {
                place.frames = frames;
            }
            places.sort_unstable_by_key(|place| (place.frames.start, place.frames.end));
        }
        Ok(Self { places, next: 0 })
    }

    /// Takes note of a maximal range of preserved memory; ranges ascend.
    pub(crate) fn meet(&mut self, range: PageRange) {
        let Some(places) = self.places.as_mut() else {
            return;
        };
        while let Some(place) = places.get_mut(self.next) {
            if place.frames.start >= range.end {
                return;
            }
            place.preserved = range.contains(place.frames);
            self.next += 1;
        }
    }

    /// Takes note of frames, ascending, that are in use without being preserved for anybody.
    pub(crate) fn exclude(&mut self, frames: &[u64]) {
        for place in self.places.iter_mut().flat_map(|places| places.iter_mut()) {
            let (start, end) = (place.frames.start.raw(), place.frames.end.raw());
            let first = frames.partition_point(|&frame| frame < start);
            place.preserved &= frames.get(first).is_none_or(|&frame| frame >= end);
        }
    }

    /// Reads a blob's description, checked: all of it must have been preserved.
    ///
    /// # Errors
    ///
    /// [`ENOENT`](crate::sys::error::ENOENT) when there is none of that name, [`EINVAL`] when it is
    /// not what it should be, with a word in the log.
    pub(crate) fn find(&self, fdt: &Blob<'_>, name: &CStr) -> Result<Subtree> {
        let subtree = fdt::subtree(fdt, name)?;
        let frames = frames(subtree).filter(|_| subtree.data.raw() != 0);
        let why = match frames {
            Some(frames) if self.preserved(frames) => return Ok(subtree),
            Some(frames) if early::is_ram(frames) => "is not preserved",
            _ => "points outside memory",
        };
        log::pr_warn!(
            "subtree {name:?} {why}: {} bytes at {:#x}\n",
            subtree.size,
            subtree.data.raw()
        );
        Err(EINVAL)
    }

    fn preserved(&self, frames: PageRange) -> bool {
        let mut places = self.places.iter().flat_map(|places| places.iter());
        places.any(|place| place.preserved && place.frames == frames)
    }

    /// Looks at all blobs, so that what is wrong with one is in the log before anybody asks for it.
    pub(crate) fn report(&self, fdt: &Blob<'_>) {
        for name in fdt::names(fdt) {
            if self.find(fdt, name).is_err() {
                log::pr_warn!("subtree {name:?} is lost; the others are not concerned\n");
            }
        }
    }
}

/// The frames of a blob; an empty one has that of its address.
fn frames(subtree: Subtree) -> Option<PageRange> {
    let end = subtree.data.raw().checked_add(subtree.size.max(1))?;
    let page = Order::ZERO.pages() << PAGE_SHIFT;
    let end = PhysAddr::new(end.checked_next_multiple_of(page)?).pfn();
    Some(PageRange::between(subtree.data.pfn(), end))
}
