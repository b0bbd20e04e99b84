// SPDX-License-Identifier: GPL-2.0

//! Random sequences of operations over several updates, against a list of what should be there.

use proptest::prelude::*;

use super::kernel::{owned, small_machine, FakeArea, Kernel};
use crate::kho::addr::{Order, PageRange, Pfn};
use crate::kho::vmalloc::{self, Descriptor};
use crate::sys::error::{Result, ENOMEM};
use crate::sys::machine::with;
use crate::sys::{pages, Frame};

/// What somebody asks of KHO.
#[derive(Clone, Debug)]
enum Op {
    /// Preserve a folio of this order.
    Folio(u32),
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

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u32..7).prop_map(Op::Folio),
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
enum Thing {
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

/// The kernel under test and what it should hold.
struct World {
    kernel: Option<Kernel>,
    live: Vec<(Thing, u64, bool)>,
    waiting: Vec<(Thing, u64)>,
    salt: u64,
    /// Frames the kernel owned when it had nothing but its own.
    idle: u64,
}

impl World {
    fn new() -> Self {
        let kernel = Kernel::cold(small_machine());
        Self {
            kernel: Some(kernel),
            live: Vec::new(),
            waiting: Vec::new(),
            salt: 1,
            idle: owned(),
        }
    }

    fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("running")
    }

    fn apply(&mut self, op: &Op) -> Result {
        match *op {
            Op::Folio(raw) => {
                let order = Order::new(raw).expect("small");
                let pfn = pages::alloc_folio(order).ok_or(ENOMEM)?;
                let range = PageRange::new(pfn, order.pages());
                self.add(Thing::Folio(pfn, order), range, |kernel| {
                    kernel.out.preserve_block(pfn, order)
                })
            }
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
        match preserve(self.kernel()) {
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
        let preserved = if enough {
            vmalloc::preserve(&mut self.kernel().out, &area, 1)
        } else {
            Err(ENOMEM)
        };
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
            assert!(out.remove_subtree(Pfn::new(thing.frames()[0]).phys()));
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

    fn update(&mut self) {
        let mut left: Vec<u64> = Vec::new();
        for (thing, ..) in &self.live {
            left.extend(thing.frames());
            left.extend(thing.chunks());
        }
        let handed = self.kernel.take().expect("running").kexec(&left);
        let (kernel, refused) = Kernel::warm(handed);
        assert!(refused.is_none(), "a good handover is refused: {refused:?}");
        self.idle = owned();
        self.kernel = Some(kernel);
        self.waiting = self
            .live
            .drain(..)
            .map(|(thing, salt, _)| (thing, salt))
            .collect();
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
    fn finish(mut self) {
        while !self.live.is_empty() {
            self.undo(0);
        }
        while !self.waiting.is_empty() {
            self.restore(0);
        }
        assert_eq!(owned(), self.idle, "memory is leaked");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_sequence(ops in prop::collection::vec(an_op(), 1..40)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op).expect("memory suffices");
        }
        world.update();
        world.finish();
    }

    #[test]
    fn any_allocation_may_fail(ops in prop::collection::vec(an_op(), 1..12), nth in 0u64..60) {
        let mut world = World::new();
        let from = with(|m| m.allocations());
        for op in ops.iter().filter(|op| !matches!(op, Op::Update)) {
            let before = owned();
            with(|m| m.faults.nth = Some(from + nth));
            let result = world.apply(op);
            with(|m| m.faults.nth = None);
            if result.is_err() {
                prop_assert_eq!(owned(), before, "a failed operation keeps memory");
                world.apply(op).expect("it works when tried again");
            }
        }
        world.update();
        world.finish();
    }

    #[test]
    fn ten_updates_in_a_row(rounds in prop::collection::vec(
        prop::collection::vec(an_op(), 1..8), 10..=10,
    )) {
        let mut world = World::new();
        for ops in rounds {
            for op in ops.iter().filter(|op| !matches!(op, Op::Update)) {
                world.apply(op).expect("memory suffices");
            }
            world.update();
        }
        world.finish();
    }
}
