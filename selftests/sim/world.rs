// SPDX-License-Identifier: GPL-2.0

//! A kernel that is asked for one thing after the other, and a list of what it should hold then.

use proptest::prelude::*;

use super::kernel::{small_machine, FakeArea, Kernel, Ledger};
use crate::kho::addr::{Order, PageRange, Pfn};
use crate::kho::vmalloc::{self, Descriptor};
use crate::sys::error::{Result, EINVAL, ENOMEM};
use crate::sys::machine::{with, Owner};
use crate::sys::{pages, Frame};

/// What somebody asks of KHO.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Preserve a folio of this order.
    Folio(u32),
    /// Preserve a folio that may have to be moved out of scratch first.
    Movable(u32),
    /// Preserve so many contiguous pages.
    Pages(u64),
    /// Preserve a vmalloc area of so many blocks of an order.
    Vmalloc(u32, u64),
    /// Name the n-th live thing in the FDT.
    Name(usize),
    /// Undo the n-th live thing.
    Undo(usize),
    /// Live update.
    Update,
    /// Restore the n-th thing that waits, and free it; then try it again.
    Restore(usize),
}

pub(super) fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u32..7).prop_map(Op::Folio),
        1 => (0u32..4).prop_map(Op::Movable),
        3 => (1u64..40).prop_map(Op::Pages),
        2 => (0u32..3, 1u64..20).prop_map(|(order, blocks)| Op::Vmalloc(order, blocks)),
        1 => any::<usize>().prop_map(Op::Name),
        2 => any::<usize>().prop_map(Op::Undo),
        1 => Just(Op::Update),
        4 => any::<usize>().prop_map(Op::Restore),
    ]
}

/// Something preserved, or waiting after an update.
#[derive(Clone, Debug)]
pub(super) enum Thing {
    Folio(Pfn, Order),
    Pages(PageRange),
    Vmalloc(Descriptor, Vec<Pfn>, Order),
}

impl Thing {
    /// Frames whose contents must survive; a vmalloc area's chunks are KHO's own.
    fn frames(&self) -> Vec<u64> {
        match self {
            Self::Folio(pfn, order) => (pfn.raw()..pfn.raw() + order.pages()).collect(),
            Self::Pages(range) => (range.start.raw()..range.end.raw()).collect(),
            Self::Vmalloc(_, blocks, order) => blocks
                .iter()
                .flat_map(|b| b.raw()..b.raw() + order.pages())
                .collect(),
        }
    }

    /// All frames that are preserved for it.
    fn all(&self) -> Vec<u64> {
        [self.frames(), self.chunks()].concat()
    }

    /// Frames of the list of a vmalloc area.
    fn chunks(&self) -> Vec<u64> {
        let Self::Vmalloc(descriptor, ..) = self else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut at = descriptor.first;
        while let Some(chunk) = Frame::at(at) {
            found.push(at.pfn().raw());
            at = crate::kho::addr::PhysAddr::new(chunk.word(0));
        }
        found
    }
}

/// Writes to each frame something that depends on where it is.
fn mark(frames: &[u64], salt: u64) {
    for &pfn in frames {
        let frame = Frame::at(Pfn::new(pfn).phys()).expect("owned");
        frame.set_word(0, pfn ^ salt);
        frame.set_word(511, !pfn ^ salt);
    }
}

fn check(frames: &[u64], salt: u64) {
    for &pfn in frames {
        let frame = Frame::at(Pfn::new(pfn).phys()).expect("owned");
        assert_eq!(
            frame.word(0),
            pfn ^ salt,
            "frame {pfn:#x} has lost its contents"
        );
        assert_eq!(frame.word(511), !pfn ^ salt);
    }
}

/// Exactly these frames have that owner.
fn demand(owner: Owner, mut frames: Vec<u64>) {
    frames.sort_unstable();
    let have = with(|m| m.frames_of(owner));
    let have: Vec<u64> = have.into_iter().map(|(pfn, _)| pfn).collect();
    if have != frames {
        let only = |these: &[u64], those: &[u64]| -> Vec<u64> {
            let these = these.iter().filter(|pfn| !those.contains(pfn));
            these.copied().collect()
        };
        panic!(
            "{owner:?}: unaccounted for {:x?}, missing {:x?}",
            only(&have, &frames),
            only(&frames, &have)
        );
    }
}

/// The kernel under test and what it should hold.
pub(super) struct World {
    kernel: Option<Kernel>,
    live: Vec<(Thing, u64, bool)>,
    waiting: Vec<(Thing, u64)>,
    salt: u64,
    /// What the kernel owned when it had nothing but its own.
    idle: Ledger,
    /// The FDT that was handed over, and whether it names anything.
    came_with: Option<(Pfn, bool)>,
    /// KHO may not allocate more than a page at once.
    pub(super) fragmented: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let kernel = Kernel::cold(small_machine());
        Self {
            kernel: Some(kernel),
            live: Vec::new(),
            waiting: Vec::new(),
            salt: 1,
            idle: Ledger::open(),
            came_with: None,
            fragmented: false,
        }
    }

    fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("running")
    }

    pub(super) fn apply(&mut self, op: &Op) -> Result {
        match *op {
            Op::Folio(raw) => {
                let order = Order::new(raw).expect("small");
                let pfn = pages::alloc_folio(order).ok_or(ENOMEM)?;
                let range = PageRange::new(pfn, order.pages());
                self.add(Thing::Folio(pfn, order), range, |kernel| {
                    kernel.out.preserve_block(pfn, order)
                })
            }
            Op::Movable(raw) => self.movable(Order::new(raw).expect("small")),
            Op::Pages(count) => {
                let order = Order::new(count.next_power_of_two().ilog2()).expect("small");
                let pfn = pages::alloc_folio(order).ok_or(ENOMEM)?;
                let range = PageRange::new(pfn, count);
                pages::free_folio(PageRange::between(range.end, pfn.plus(order.pages())));
                self.add(Thing::Pages(range), range, |kernel| {
                    kernel.out.preserve_pages(range)
                })
            }
            Op::Vmalloc(raw, count) => self.add_vmalloc(Order::new(raw).expect("small"), count),
            Op::Name(which) => self.name(which),
            Op::Undo(which) => {
                self.undo(which);
                Ok(())
            }
            Op::Update => {
                self.update();
                Ok(())
            }
            Op::Restore(which) => {
                self.restore(which);
                Ok(())
            }
        }
    }

    /// Preserves what was just allocated, or frees it again.
    fn add(
        &mut self,
        thing: Thing,
        range: PageRange,
        preserve: impl FnOnce(&mut Kernel) -> Result,
    ) -> Result {
        with(|m| m.faults.above = self.fragmented.then_some(0));
        let preserved = preserve(self.kernel());
        with(|m| m.faults.above = None);
        match preserved {
            Ok(()) => {
                self.salt += 1;
                mark(&thing.frames(), self.salt);
                self.live.push((thing, self.salt, false));
                Ok(())
            }
            Err(err) => {
                pages::free_folio(range);
                Err(err)
            }
        }
    }

    /// As for a memfd: what lies in scratch is refused, and preserved once it is elsewhere.
    fn movable(&mut self, order: Order) -> Result {
        let pfn = pages::alloc_movable(order).ok_or(ENOMEM)?;
        let range = PageRange::new(pfn, order.pages());
        if !with(|m| m.in_scratch(pfn.raw())) {
            return self.add(Thing::Folio(pfn, order), range, |kernel| {
                kernel.out.preserve_block(pfn, order)
            });
        }
        let before = Ledger::open();
        let out = &mut self.kernel().out;
        assert_eq!(out.preserve_block(pfn, order), Err(EINVAL));
        assert_eq!(out.preserve_pages(range), Err(EINVAL));
        assert_eq!(out.preserve_run(pfn, order, 1), Err(EINVAL));
        before.close();
        let moved = self.apply(&Op::Folio(order.raw()));
        pages::free_folio(range);
        moved
    }

    fn add_vmalloc(&mut self, order: Order, count: u64) -> Result {
        let mut blocks = Vec::new();
        let mut enough = true;
        for _ in 0..count {
            match pages::alloc_folio(order) {
                Some(pfn) => blocks.push(pfn),
                None => enough = false,
            }
        }
        let area = FakeArea {
            order,
            blocks: blocks.clone(),
        };
        with(|m| m.faults.above = self.fragmented.then_some(0));
        let preserved = if enough {
            vmalloc::preserve(&mut self.kernel().out, &area, 1)
        } else {
            Err(ENOMEM)
        };
        with(|m| m.faults.above = None);
        match preserved {
            Ok(descriptor) => {
                self.salt += 1;
                let thing = Thing::Vmalloc(descriptor, blocks, order);
                mark(&thing.frames(), self.salt);
                self.live.push((thing, self.salt, false));
                Ok(())
            }
            Err(err) => {
                for block in blocks {
                    pages::free_folio(PageRange::new(block, order.pages()));
                }
                Err(err)
            }
        }
    }

    /// Names the first frame of a thing, once.
    fn name(&mut self, which: usize) -> Result {
        let count = self.live.len().max(1);
        let Some((thing, _, named)) = self.live.get_mut(which % count) else {
            return Ok(());
        };
        if *named {
            return Ok(());
        }
        let first = Pfn::new(thing.frames()[0]);
        let name = std::ffi::CString::new(format!("thing-{:x}", first.raw())).expect("no NUL");
        let kernel = self.kernel.as_mut().expect("running");
        kernel.out.add_subtree(&name, first.phys(), 4096)?;
        *named = true;
        Ok(())
    }

    fn undo(&mut self, which: usize) {
        if self.live.is_empty() {
            return;
        }
        let (thing, salt, named) = self.live.swap_remove(which % self.live.len());
        check(&thing.frames(), salt);
        let out = &mut self.kernel.as_mut().expect("running").out;
        if named {
            let at = Pfn::new(thing.frames()[0]).phys();
            assert_eq!(out.remove_subtree(at), Ok(true));
        }
        match &thing {
            Thing::Folio(pfn, order) => assert!(out.unpreserve_block(*pfn, *order)),
            Thing::Pages(range) => assert!(out.unpreserve_pages(*range)),
            Thing::Vmalloc(descriptor, ..) => vmalloc::unpreserve(out, descriptor),
        }
        for pfn in thing.frames() {
            pages::free_folio(PageRange::new(Pfn::new(pfn), 1));
        }
    }

    pub(super) fn update(&mut self) {
        self.audit();
        let mut left: Vec<u64> = Vec::new();
        for (thing, ..) in &self.live {
            left.extend(thing.frames());
            left.extend(thing.chunks());
        }
        let handed = self.kernel.take().expect("running").kexec(&left);
        let (kernel, refused) = Kernel::warm(handed);
        assert!(refused.is_none(), "a good handover is refused: {refused:?}");
        let log = with(|m| m.take_log());
        assert!(!log.iter().any(|line| line.contains("checksum")), "{log:?}");
        self.idle = Ledger::open();
        let any_named = self.live.iter().any(|(_, _, named)| *named);
        self.came_with = Some((handed.fdt.pfn(), any_named));
        self.kernel = Some(kernel);
        self.waiting = self
            .live
            .drain(..)
            .map(|(thing, salt, _)| (thing, salt))
            .collect();
        self.audit();
    }

    /// Every frame is somebody's who is known, to the page: what is preserved and the record of it,
    /// what waits and the record of that, and nothing else.
    pub(super) fn audit(&self) {
        let kernel = self.kernel.as_ref().expect("running");
        let mut owned = kernel.nodes();
        owned.push(
            kernel
                .out
                .fdt()
                .expect("made")
                .page()
                .frame()
                .phys()
                .pfn()
                .raw(),
        );
        owned.extend(self.live.iter().flat_map(|(thing, ..)| thing.all()));
        demand(Owner::Kernel, owned);
        let mut waiting: Vec<u64> = kernel.incoming_nodes();
        waiting.extend(self.came_with.map(|(fdt, _)| fdt.raw()));
        waiting.extend(self.waiting.iter().flat_map(|(thing, _)| thing.all()));
        demand(Owner::Waiting, waiting);
        // The list of subtrees, if there is one, takes a page.
        let listed = self.came_with.is_some_and(|(_, named)| named);
        assert_eq!(with(|m| m.count(Owner::Boot)), listed.into());
        demand(Owner::Left, Vec::new());
    }

    fn restore(&mut self, which: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let (thing, salt) = self.waiting.swap_remove(which % self.waiting.len());
        for again in [false, true] {
            let kernel = self.kernel.as_mut().expect("running");
            let restored = match &thing {
                Thing::Folio(pfn, order) => {
                    let given = kernel.restore_folio(*pfn);
                    assert!(given.is_none() || given == Some(*order));
                    given.is_some()
                }
                Thing::Pages(range) => kernel.restore_pages(*range),
                Thing::Vmalloc(descriptor, blocks, _) => {
                    let given = kernel.restore_vmalloc(descriptor);
                    assert!(given.is_err() || given.as_ref() == Ok(blocks));
                    given.is_ok()
                }
            };
            assert_eq!(restored, !again, "{thing:?}: second time: {again}");
        }
        check(&thing.frames(), salt);
        for pfn in thing.frames() {
            pages::free_folio(PageRange::new(Pfn::new(pfn), 1));
        }
    }

    /// Undoes and restores everything; then the kernel owns what it owned when idle.
    pub(super) fn finish(mut self) {
        while !self.live.is_empty() {
            self.undo(0);
        }
        while !self.waiting.is_empty() {
            self.restore(0);
        }
        self.audit();
        self.idle.close();
    }
}
