// SPDX-License-Identifier: GPL-2.0

//! Page frames as arrays of words in the direct map.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::glue;
use crate::sys::addr::PhysAddr;
use crate::sys::FRAME_WORDS;

/// A page frame of memory.
///
/// # Invariants
///
/// Points to a page in the kernel's direct map. All access is by atomic words, and no Rust
/// reference to the page exists, so that whatever the frame is used for, no access is a data race.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame(NonNull<[AtomicU64; FRAME_WORDS]>);

// SAFETY: A frame is an address; access to it is atomic.
unsafe impl Send for Frame {}
// SAFETY: As above.
unsafe impl Sync for Frame {}

impl Frame {
    /// The frame at an address, or `None` unless that is page-aligned, not zero, and below the end
    /// of memory. Whether it is RAM is for the caller to know: it is, for addresses that came from
    /// an allocator, and for those of a handed-over tree after the boot's checks.
    pub(crate) fn at(phys: PhysAddr) -> Option<Self> {
        if phys.raw() == 0 || !phys.is_page_aligned() || phys.pfn() >= super::early::end_of_memory()
        {
            return None;
        }
        // SAFETY: This only computes an address.
        let virt = unsafe { glue::lu_phys_to_virt(phys.raw()) };
        NonNull::new(virt.cast()).map(Self)
    }

    /// The frame whose memory starts at `virt`.
    ///
    /// # Safety
    ///
    /// `virt` is null or a page-aligned address in the direct map.
    pub(crate) unsafe fn from_virt(virt: *mut c_void) -> Option<Self> {
        NonNull::new(virt.cast()).map(Self)
    }

    pub(crate) fn phys(self) -> PhysAddr {
        // SAFETY: The invariant: this is an address in the direct map.
        PhysAddr::new(unsafe { glue::lu_virt_to_phys(self.as_ptr()) })
    }

    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    fn words(&self) -> &[AtomicU64; FRAME_WORDS] {
        // SAFETY: The invariant: a mapped page, accessed by atomics only.
        unsafe { self.0.as_ref() }
    }

    /// Word number `index`; words beyond the page read as zero.
    pub(crate) fn word(self, index: usize) -> u64 {
        match self.words().get(index) {
            Some(word) => word.load(Ordering::Relaxed),
            None => 0,
        }
    }

    /// Clears some words, unless any is beyond the page.
    #[cfg(CONFIG_LIVEUPDATE)]
    pub(crate) fn clear(self, first: usize, count: usize) {
        let words = self.words().get(first..first.saturating_add(count));
        // Eight at a time: a cache line, and no count of what is left over for each.
        let (lines, rest) = words.unwrap_or_default().as_chunks::<8>();
        let clear = |word: &AtomicU64| word.store(0, Ordering::Relaxed);
        lines.iter().for_each(|line| line.iter().for_each(clear));
        rest.iter().for_each(clear);
    }

    /// Sets a word; one beyond the page is ignored.
    pub(crate) fn set_word(self, index: usize, value: u64) {
        if let Some(word) = self.words().get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }
}
