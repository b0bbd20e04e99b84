// SPDX-License-Identifier: GPL-2.0

//! Struct pages: nodes from the page allocator, and preserved frames on the way to their owners.

#[cfg(CONFIG_LIVEUPDATE)]
use core::ffi::c_void;

use super::glue;
use super::Frame;
#[cfg(CONFIG_LIVEUPDATE)]
use crate::sys::addr::PhysAddr;
use crate::sys::addr::{Order, PageRange, Pfn};
use crate::sys::NodeStore;

/// Nodes from and to the page allocator; allocation may sleep.
pub(crate) struct BuddyNodes;

impl NodeStore for BuddyNodes {
    fn alloc(&mut self) -> Option<Frame> {
        // SAFETY: The allocator returns null or a page in the direct map.
        unsafe { Frame::from_virt(glue::lu_zeroed_page()) }
    }

    fn free(&mut self, node: Frame) {
        // SAFETY: Nodes of such trees come from `alloc`, and nothing refers to this one any more.
        unsafe { glue::lu_free_page(node.as_ptr()) }
    }
}

/// Nodes of a handed-over tree: reserved memory that goes to the page allocator. None can be made.
pub(crate) struct ReservedNodes;

impl NodeStore for ReservedNodes {
    fn alloc(&mut self) -> Option<Frame> {
        None
    }

    fn free(&mut self, node: Frame) {
        // SAFETY: Nodes were reserved at boot, and nothing refers to this one any more.
        unsafe { glue::lu_free_reserved_page(node.phys().pfn().raw()) }
    }
}

/// Whether both ends of a range are on one NUMA node.
pub(crate) fn single_node(range: PageRange) -> bool {
    let last = range.end.raw().saturating_sub(1);
    // SAFETY: Callers ask for frames of pages that exist.
    unsafe { glue::lu_pfn_to_nid(range.start.raw()) == glue::lu_pfn_to_nid(last) }
}

/// The NUMA node of a frame of memory.
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) fn node_of(pfn: Pfn) -> i32 {
    // SAFETY: Callers ask for frames of pages that exist.
    unsafe { glue::lu_pfn_to_nid(pfn.raw()) }
}

/// Frees those frames of a range that are still marked reserved. During boot only.
pub(crate) fn free_reserved(range: PageRange) {
    if !range.is_empty() {
        // SAFETY: Callers pass ranges that were reserved and initialised by `init_reserved`, after
        // deferred initialisation has ended; frames given out since are not marked any more.
        unsafe { glue::lu_free_reserved(range.start.raw(), range.pages()) }
    }
}

/// Makes the struct pages of reserved memory valid.
pub(crate) fn init_reserved(range: PageRange) {
    // SAFETY: Called between memory map setup and memblock's end, for ranges of RAM.
    unsafe { glue::lu_init_reserved(range.start.raw(), range.pages()) }
}

/// Makes the struct pages of free memory readable, where they are not initialised yet.
pub(crate) fn init_free(range: PageRange) {
    if !range.is_empty() {
        // SAFETY: Called between memory map setup and memblock's end, for memory that is free.
        unsafe { glue::lu_init_free(range.start.raw(), range.pages()) }
    }
}

/// Whether any of the frames is known to be bad memory.
pub(crate) fn any_poisoned(range: PageRange) -> bool {
    // SAFETY: The frames have struct pages, as they are of the incoming tree.
    unsafe { glue::lu_any_poisoned(range.start.raw(), range.pages()) }
}

/// An address of somebody's, of whatever may be there.
#[cfg(CONFIG_LIVEUPDATE)]
#[derive(Clone, Copy)]
pub(crate) struct Somewhere(*const c_void);

#[cfg(CONFIG_LIVEUPDATE)]
impl Somewhere {
    pub(crate) fn of(pointer: *const c_void) -> Self {
        Self(pointer)
    }

    pub(crate) fn at(phys: PhysAddr) -> Self {
        // SAFETY: This only computes an address.
        Self(unsafe { glue::lu_phys_to_virt(phys.raw()) })
    }

    /// Bytes from the start of its page.
    pub(crate) fn offset(self) -> usize {
        self.0.addr() % kernel::page::PAGE_SIZE
    }

    /// What the owner of its page noted in the struct page; anything at all if that is somebody
    /// else, or if no page is there.
    #[inline]
    pub(crate) fn note(self) -> Option<u64> {
        let mut note = 0;
        // SAFETY: Takes any address; the note may be written.
        unsafe { glue::lu_page_note(self.0, &mut note) }.then_some(note)
    }

    /// Whether it is in a page.
    pub(crate) fn is_in(self, page: Frame) -> bool {
        self.0.addr() - self.offset() == page.as_ptr().addr()
    }
}

/// Notes something in the struct page of a page that is the caller's.
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) fn set_note(pfn: Pfn, note: u64) {
    // SAFETY: The page exists, as it is the caller's, and its note is the caller's as well.
    unsafe { glue::lu_page_set_note(pfn.raw(), note) }
}

/// Makes claimed frames order-0 pages with a reference each. False, and they stay out of use, if
/// one of them is known to be bad memory.
pub(crate) fn give_out_pages(range: PageRange) -> bool {
    if any_poisoned(range) {
        return false;
    }
    // SAFETY: The frames were claimed from the incoming tree: their struct pages are valid and
    // nobody else uses them.
    unsafe { glue::lu_give_out_pages(range.start.raw(), range.pages()) };
    true
}

/// Gives claimed frames to the page allocator; bad memory among them stays reserved.
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, CONFIG_LIVEUPDATE_MEMFD))]
pub(crate) fn free_waiting(range: PageRange) {
    // SAFETY: The frames were claimed from the incoming tree: their struct pages are valid and
    // nobody else uses them.
    unsafe { glue::lu_free_waiting(range.start.raw(), range.pages()) }
}

/// Makes a claimed block one folio; null if it is known to be bad memory.
pub(crate) fn give_out_folio(pfn: Pfn, order: Order) -> *mut glue::folio {
    if any_poisoned(PageRange::new(pfn, order.pages())) {
        return core::ptr::null_mut();
    }
    // SAFETY: As in `give_out_pages`.
    unsafe { glue::lu_give_out_folio(pfn.raw(), order.raw()) }
}
