// SPDX-License-Identifier: GPL-2.0

//! memblock and the firmware's map. The functions that change anything are for early boot only.

use core::ptr::NonNull;

use super::glue;
use crate::sys::addr::{PageRange, Pfn, PhysAddr};
use crate::sys::error::{to_result, Result};
use crate::sys::{Where, PAGE_SHIFT};

/// Longest stretch that can be mapped early: half of what early_memremap() has on any architecture.
const MAX_MAPPED: u64 = 128 << 10;

/// A place as the C functions take it.
fn code(place: Where) -> i32 {
    match place {
        Where::Low => glue::LU_LOW,
        Where::Anywhere => glue::LU_ANYWHERE,
        Where::Node(node) => node,
    }
}

/// A temporary mapping of physical memory.
///
/// # Invariants
///
/// `len` bytes from `start` on are mapped and stay so.
pub(crate) struct Mapped {
    start: NonNull<u8>,
    len: u64,
}

impl Mapped {
    /// Maps bytes for reading; `None` if they are none, too many, or cannot be.
    pub(crate) fn new(at: PhysAddr, len: u64) -> Option<Self> {
        let sane = at.raw() != 0 && (1..=MAX_MAPPED).contains(&len) && firmware_says_ram(at, len);
        if !sane {
            return None;
        }
        // SAFETY: Early boot; the length is within what can be mapped.
        let map = unsafe { glue::lu_early_map(at.raw(), len) };
        Some(Self {
            start: NonNull::new(map.cast())?,
            len,
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: The invariant; nothing else runs that could write there.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: Mapped in `new`.
        unsafe { glue::lu_early_unmap(self.start.as_ptr().cast(), self.len) }
    }
}

/// Whether the firmware lists all of these bytes as RAM.
pub(crate) fn firmware_says_ram(start: PhysAddr, size: u64) -> bool {
    start.raw().checked_add(size).is_some()
        // SAFETY: No preconditions.
        && unsafe { glue::lu_firmware_says_ram(start.raw(), size) }
}

/// Bytes this kernel has reserved for itself, huge pages aside.
pub(crate) fn kernel_bytes(place: Where) -> u64 {
    // SAFETY: Early boot.
    unsafe { glue::lu_kernel_bytes(code(place)) }
}

/// Nodes that have memory.
pub(crate) fn memory_nodes() -> impl Iterator<Item = i32> {
    // SAFETY: No preconditions.
    let next = |after: i32| match unsafe { glue::lu_next_memory_node(after) } {
        -1 => None,
        node => Some(node),
    };
    core::iter::successors(next(-1), move |&node| next(node))
}

/// Reserves free memory; `None` when there is none.
pub(crate) fn alloc(size: u64, align: u64, place: Where) -> Option<PhysAddr> {
    // SAFETY: Early boot.
    match unsafe { glue::lu_early_alloc(size, align, code(place)) } {
        0 => None,
        start => Some(PhysAddr::new(start)),
    }
}

/// Gives back what was reserved.
pub(crate) fn free(start: PhysAddr, size: u64) {
    if size != 0 {
        // SAFETY: Early boot; callers reserved it.
        unsafe { glue::lu_early_free(start.raw(), size) }
    }
}

/// Adds memory, marked as usable while only scratch is.
pub(crate) fn open_scratch(start: PhysAddr, size: u64) -> Result {
    // SAFETY: Early boot.
    to_result(unsafe { glue::lu_open_scratch(start.raw(), size) })
}

/// Undoes the mark of [`open_scratch`].
pub(crate) fn close_scratch(start: PhysAddr, size: u64) {
    // SAFETY: Early boot.
    unsafe { glue::lu_close_scratch(start.raw(), size) }
}

/// Undoes [`open_scratch`] where it turns out to be no memory: all that is known of it is
/// forgotten.
pub(crate) fn disown(start: PhysAddr, size: u64) {
    if size != 0 {
        // SAFETY: Early boot; nothing was allocated yet.
        unsafe { glue::lu_disown(start.raw(), size) }
    }
}

/// Restricts memblock's allocations to what is marked as scratch.
pub(crate) fn scratch_only(on: bool) {
    // SAFETY: Early boot.
    unsafe { glue::lu_scratch_only(on) }
}

/// Marks memory as usable while only scratch is.
pub(crate) fn open(range: PageRange) {
    let bytes = range.pages() << PAGE_SHIFT;
    // SAFETY: Early boot.
    unsafe { glue::lu_open(range.start.phys().raw(), bytes) }
}

/// Reserves memory whose struct pages `pages::init_reserved` takes care of.
pub(crate) fn reserve(range: PageRange) -> Result {
    let bytes = range.pages() << PAGE_SHIFT;
    // SAFETY: Early boot.
    to_result(unsafe { glue::lu_reserve_noinit(range.start.phys().raw(), bytes) })
}

/// Whether any of the range is reserved.
pub(crate) fn has_reserved(range: PageRange) -> bool {
    let bytes = range.pages() << PAGE_SHIFT;
    // SAFETY: Early boot.
    unsafe { glue::lu_has_reserved(range.start.phys().raw(), bytes) }
}

/// The RAM that the next kernel is told of, entry by entry; those that are something else are
/// empty. Not in early boot, when the map may change.
pub(crate) fn handed_ram() -> impl Iterator<Item = PageRange> {
    (0..).map_while(|index| {
        let (mut start, mut end) = (0, 0);
        // SAFETY: Both pointers are valid.
        let more = unsafe { glue::lu_handed_ram(index, &mut start, &mut end) };
        more.then(|| PageRange::between(Pfn::new(start), Pfn::new(end)))
    })
}

/// Memory that drivers do DMA to, as far as areas were set aside for it.
pub(crate) fn dma_areas() -> impl Iterator<Item = PageRange> {
    (0..).map_while(|index| {
        let (mut start, mut end) = (0, 0);
        // SAFETY: Both pointers are valid.
        let more = unsafe { glue::lu_dma_area(index, &mut start, &mut end) };
        more.then(|| PageRange::between(Pfn::new(start), Pfn::new(end)))
    })
}

/// One past the last frame of memory.
pub(crate) fn end_of_memory() -> Pfn {
    // SAFETY: Reads a variable.
    Pfn::new(unsafe { glue::lu_end_of_memory() })
}

/// Whether a range is memory. At any time.
pub(crate) fn is_ram(range: PageRange) -> bool {
    range.end <= end_of_memory()
        && !range.is_empty()
        // SAFETY: The range is within what frame numbers can be.
        && unsafe { glue::lu_is_ram(range.start.raw(), range.pages()) }
}

/// The stretch of memory around a frame; empty if the frame is none.
pub(crate) fn ram_span(at: Pfn) -> PageRange {
    span(at, glue::lu_ram_span)
}

/// The stretch around a frame that is memory of one kind and node, free, and not scratch.
pub(crate) fn free_span(at: Pfn) -> PageRange {
    span(at, glue::lu_free_span)
}

fn span(at: Pfn, find: unsafe extern "C" fn(u64, *mut u64, *mut u64)) -> PageRange {
    let (mut start, mut end) = (0, 0);
    // SAFETY: Early boot; both pointers are valid.
    unsafe { find(at.raw(), &mut start, &mut end) };
    PageRange::between(Pfn::new(start), Pfn::new(end))
}

/// The page that an FDT was handed over in. `at` is where the boot protocol said, in RAM as the
/// checks of the header found; not before the direct map.
pub(crate) fn handed_over(at: PhysAddr) -> &'static [u8] {
    // SAFETY: The address is in RAM; the tree has its page as preserved, so nobody ever gets it to
    // write to.
    unsafe {
        let start = glue::lu_phys_to_virt(at.raw()).cast::<u8>();
        core::slice::from_raw_parts(start, kernel::page::PAGE_SIZE)
    }
}
