// SPDX-License-Identifier: GPL-2.0

//! memblock and the firmware's map of the simulated machine.

use super::machine::{with, Machine, Owner};
use crate::sys::addr::{PageRange, Pfn, PhysAddr};
use crate::sys::error::{Result, EINVAL};
use crate::sys::{Where, FRAME_WORDS, PAGE_SHIFT};

/// Frames below this are low memory.
const LOW_FRAMES: u64 = 1024;

/// The frames of a place.
fn within(machine: &Machine, place: Where) -> PageRange {
    match place {
        Where::Low => PageRange::new(Pfn::new(0), LOW_FRAMES),
        Where::Anywhere => PageRange::new(Pfn::new(0), machine.frames()),
        Where::Node(node) => machine.node_range(node as usize),
    }
}

fn frames(start: PhysAddr, size: u64) -> PageRange {
    let end = start.raw().saturating_add(size);
    PageRange::between(start.pfn(), Pfn::new(end.div_ceil(1 << PAGE_SHIFT)))
}

/// Memory that was copied for reading.
pub(crate) struct Mapped(Vec<u64>, usize, usize);

impl Mapped {
    pub(crate) fn new(at: PhysAddr, len: u64) -> Option<Self> {
        if at.raw() == 0 || !(1..=128 << 10).contains(&len) || !firmware_says_ram(at, len) {
            return None;
        }
        let range = frames(at, len);
        let mut words = Vec::new();
        for pfn in range.start.raw()..range.end.raw() {
            let at = Pfn::new(pfn).phys();
            with(|m| words.extend((0..FRAME_WORDS).map(|word| m.peek(at, word))));
        }
        Some(Self(words, (at.raw() % 4096) as usize, len as usize))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes = zerocopy::IntoBytes::as_bytes(self.0.as_slice());
        &bytes[self.1..self.1 + self.2]
    }
}

pub(crate) fn firmware_says_ram(start: PhysAddr, size: u64) -> bool {
    start.raw().checked_add(size).is_some() && with(|m| m.is_ram(frames(start, size)))
}

/// Bytes reserved by this kernel.
pub(crate) fn kernel_bytes(place: Where) -> u64 {
    with(|m| {
        let within = within(m, place);
        (within.start.raw()..within.end.raw().min(m.frames()))
            .filter(|&pfn| m.owner(pfn) == Owner::Boot)
            .count() as u64
            * 4096
    })
}

pub(crate) fn memory_nodes() -> impl Iterator<Item = i32> {
    0..with(|m| m.config.nodes.len()) as i32
}

pub(crate) fn alloc(size: u64, align: u64, place: Where) -> Option<PhysAddr> {
    let start = with(|m| {
        let within = within(m, place);
        m.boot_alloc(size >> PAGE_SHIFT, align >> PAGE_SHIFT, within)
    })?;
    Some(Pfn::new(start).phys())
}

/// Reserves the first free memory there is, whatever it is marked as: what an allocator does that
/// walks memblock with its own flags.
#[cfg(test)]
pub(crate) fn alloc_regardless(pages: u64) -> Option<PageRange> {
    let start = with(|m| m.boot_alloc_regardless(pages))?;
    Some(PageRange::new(Pfn::new(start), pages))
}

pub(crate) fn free(start: PhysAddr, size: u64) {
    with(|m| m.change(frames(start, size), &[Owner::Boot], Owner::Nobody, "free"));
}

pub(crate) fn open_scratch(start: PhysAddr, size: u64) -> Result {
    with(|m| m.mark_scratch(frames(start, size), true));
    Ok(())
}

pub(crate) fn close_scratch(start: PhysAddr, size: u64) {
    with(|m| m.mark_scratch(frames(start, size), false));
}

pub(crate) fn scratch_only(on: bool) {
    with(|m| m.scratch_only = on);
}

pub(crate) fn open(range: PageRange) {
    with(|m| m.mark_open(range));
}

pub(crate) fn reserve(range: PageRange) -> Result {
    if !is_ram(range) {
        return Err(EINVAL);
    }
    // As memblock does, whoever has reserved some of it already.
    let from = [Owner::Nobody, Owner::Left, Owner::Boot];
    with(|m| m.change(range, &from, Owner::Boot, "reserve"));
    Ok(())
}

pub(crate) fn has_reserved(range: PageRange) -> bool {
    with(|m| (range.start.raw()..range.end.raw()).any(|pfn| m.owner(pfn) == Owner::Boot))
}

/// The RAM that the next kernel is told of: all but what was added while this one ran.
pub(crate) fn handed_ram() -> impl Iterator<Item = PageRange> {
    with(|m| {
        let end = m.frames() - m.added;
        [PageRange::between(Pfn::new(m.config.hole), Pfn::new(end))].into_iter()
    })
}

/// Memory that drivers do DMA to.
pub(crate) fn dma_areas() -> impl Iterator<Item = PageRange> {
    core::iter::empty()
}

pub(crate) fn end_of_memory() -> Pfn {
    Pfn::new(with(|m| m.frames() - m.gone))
}

pub(crate) fn is_ram(range: PageRange) -> bool {
    !range.is_empty() && with(|m| m.is_ram(range))
}

/// Memory of one node around a frame.
pub(crate) fn ram_span(at: Pfn) -> PageRange {
    with(|m| {
        if !m.is_ram(PageRange::new(at, 1)) {
            return PageRange::new(at, 0);
        }
        let node = m.node_range(m.node_of(at.raw()));
        let end = node.end.min(Pfn::new(m.frames() - m.gone));
        PageRange::between(node.start.max(Pfn::new(m.config.hole)), end)
    })
}

/// Memory around a frame that is neither reserved nor scratch, on one node.
pub(crate) fn free_span(at: Pfn) -> PageRange {
    let span = ram_span(at);
    with(|m| {
        let plain = |pfn: &u64| m.owner(*pfn) != Owner::Boot && !m.in_scratch(*pfn);
        let from = at.raw();
        let start = (span.start.raw()..from).rev().take_while(plain).last();
        let len = (from..span.end.raw()).take_while(plain).count() as u64;
        if len == 0 {
            return PageRange::new(at, 0);
        }
        PageRange::between(Pfn::new(start.unwrap_or(from)), Pfn::new(from + len))
    })
}

/// A copy of the page that an FDT was handed over in, kept for ever as the page itself is.
pub(crate) fn handed_over(at: PhysAddr) -> &'static [u8] {
    Mapped::new(at, 4096).map_or(&[], |map| map.bytes().to_vec().leak())
}
