// SPDX-License-Identifier: GPL-2.0

//! Page frames of the simulated machine.

use core::ffi::c_void;

use super::machine::with;
use crate::sys::addr::{Pfn, PhysAddr};
use crate::sys::FRAME_WORDS;

/// A page frame; every access is checked against who owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame(u64);

impl Frame {
    /// The frame at an address; `None` unless page-aligned, not zero, and below the end of memory.
    pub(crate) fn at(phys: PhysAddr) -> Option<Self> {
        let inside = phys.pfn().raw() < with(|m| m.frames());
        (phys.raw() != 0 && phys.is_page_aligned() && inside).then(|| Self(phys.pfn().raw()))
    }

    pub(crate) fn phys(self) -> PhysAddr {
        Pfn::new(self.0).phys()
    }

    /// The frame's memory, for libfdt.
    pub(crate) fn as_ptr(self) -> *mut c_void {
        with(|m| {
            m.check_access(self.0, true);
            m.words_mut(self.0).as_mut_ptr().cast()
        })
    }

    /// Word number `index`; words beyond the page read as zero.
    #[inline]
    pub(crate) fn word(self, index: usize) -> u64 {
        if index >= FRAME_WORDS {
            return 0;
        }
        with(|m| {
            m.check_access(self.0, false);
            m.work += 1;
            m.peek(self.phys(), index)
        })
    }

    /// Clears some words, unless any is beyond the page.
    pub(crate) fn clear(self, first: usize, count: usize) {
        assert!(first + count <= FRAME_WORDS);
        (first..first + count).for_each(|word| self.set_word(word, 0));
    }

    /// Sets a word; one beyond the page is ignored.
    pub(crate) fn set_word(self, index: usize, value: u64) {
        if index < FRAME_WORDS {
            with(|m| {
                m.check_access(self.0, true);
                m.work += 1;
                m.poke(self.phys(), index, value);
            });
        }
    }
}
