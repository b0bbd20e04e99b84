// SPDX-License-Identifier: GPL-2.0

//! The page allocator and struct pages of the simulated machine.

use super::machine::{with, Owner};
use super::Frame;
use crate::sys::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::sys::NodeStore;

/// Nodes from and to the page allocator.
pub(crate) struct BuddyNodes;

impl NodeStore for BuddyNodes {
    fn alloc(&mut self) -> Option<Frame> {
        let pfn = with(|m| m.alloc(0, false))?;
        Frame::at(Pfn::new(pfn).phys())
    }

    fn free(&mut self, node: Frame) {
        let frame = PageRange::new(node.phys().pfn(), 1);
        with(|m| m.change(frame, &[Owner::Kernel], Owner::Nobody, "free node"));
    }
}

/// Nodes of a handed-over tree, going to the page allocator.
pub(crate) struct ReservedNodes;

impl NodeStore for ReservedNodes {
    fn alloc(&mut self) -> Option<Frame> {
        None
    }

    fn free(&mut self, node: Frame) {
        let frame = PageRange::new(node.phys().pfn(), 1);
        with(|m| {
            m.change(
                frame,
                &[Owner::Waiting],
                Owner::Nobody,
                "free incoming node",
            )
        });
    }
}

/// Whether both ends of a range are on one NUMA node.
pub(crate) fn single_node(range: PageRange) -> bool {
    with(|m| m.node_of(range.start.raw()) == m.node_of(range.end.raw() - 1))
}

/// The NUMA node of a frame.
pub(crate) fn node_of(pfn: Pfn) -> i32 {
    with(|m| m.node_of(pfn.raw()) as i32)
}

/// Frees those frames of a range that wait; those given out since do not.
pub(crate) fn free_reserved(range: PageRange) {
    with(|m| {
        for pfn in range.start.raw()..range.end.raw() {
            if m.owner(pfn) == Owner::Waiting {
                let frame = PageRange::new(Pfn::new(pfn), 1);
                m.change(frame, &[Owner::Waiting], Owner::Nobody, "free gap");
            }
        }
    });
}

/// Makes the struct pages of reserved memory valid.
pub(crate) fn init_reserved(range: PageRange) {
    with(|m| m.change(range, &[Owner::Boot], Owner::Waiting, "initialise"));
}

/// The simulated machine has no struct pages to read.
pub(crate) fn init_free(_range: PageRange) {}

/// Whether any of the frames is known to be bad memory.
pub(crate) fn any_poisoned(range: PageRange) -> bool {
    with(|m| (range.start.raw()..range.end.raw()).any(|pfn| m.bad.contains(&pfn)))
}

/// An address of somebody's, of whatever may be there.
#[derive(Clone, Copy)]
pub(crate) struct Somewhere(PhysAddr);

impl Somewhere {
    pub(crate) fn at(phys: PhysAddr) -> Self {
        Self(phys)
    }

    /// Bytes from the start of its page.
    pub(crate) fn offset(self) -> usize {
        (self.0.raw() - self.0.pfn().phys().raw()) as usize
    }

    /// What the owner of its page noted in the struct page; anything at all if that is somebody
    /// else, or if no page is there.
    pub(crate) fn note(self) -> Option<u64> {
        with(|m| m.notes.get(self.0.pfn().raw() as usize).copied())
    }

    /// Whether it is in a page.
    pub(crate) fn is_in(self, page: Frame) -> bool {
        self.0.pfn() == page.phys().pfn()
    }
}

/// Notes something in the struct page of a page that is the caller's.
pub(crate) fn set_note(pfn: Pfn, note: u64) {
    with(|m| {
        m.check_access(pfn.raw(), true);
        m.notes[pfn.raw() as usize] = note;
    });
}

/// Gives claimed frames to their new owner.
pub(crate) fn give_out_pages(range: PageRange) -> bool {
    with(|m| m.change(range, &[Owner::Waiting], Owner::Kernel, "give out"));
    true
}

/// Gives a claimed block to its new owner.
pub(crate) fn give_out_folio(pfn: Pfn, order: Order) {
    give_out_pages(PageRange::new(pfn, order.pages()));
}

/// Gives claimed frames to the page allocator.
pub(crate) fn free_waiting(range: PageRange) {
    with(|m| m.change(range, &[Owner::Waiting], Owner::Nobody, "free waiting"));
}

/// A folio for somebody who will preserve it.
pub(crate) fn alloc_folio(order: Order) -> Option<Pfn> {
    with(|m| m.alloc(order.raw(), false)).map(Pfn::new)
}

/// A folio for somebody who lets it be moved: it may lie in scratch, where nothing is preserved.
pub(crate) fn alloc_movable(order: Order) -> Option<Pfn> {
    with(|m| m.alloc(order.raw(), true)).map(Pfn::new)
}

/// Frees what [`alloc_folio`] gave, or what was given out.
pub(crate) fn free_folio(range: PageRange) {
    with(|m| m.change(range, &[Owner::Kernel], Owner::Nobody, "free"));
}
