// SPDX-License-Identifier: GPL-2.0

//! One small handover with something of everything in it, to be damaged and booted again and again.
//!
//! A previous kernel preserved four folios, a run of pages, a vmalloc area whose list has two
//! chunks, a chain of three blocks, "kexec-metadata", and a subtree "sample": the record of a
//! driver, which says where all of that is.

use super::kernel::{owned, small_machine, FakeArea, Handed, Kernel};
use super::snapshot::Snapshot;
use super::survey::{survey, Found};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::block;
use crate::kho::metadata::{self, Metadata};
use crate::kho::vmalloc;
use crate::sys::machine::{with, Owner};
use crate::sys::{pages, Frame};

/// Name of the driver's subtree.
pub(crate) const NAME: &core::ffi::CStr = c"sample";

/// Orders of the folios.
const FOLIOS: [u32; 4] = [0, 0, 1, 3];

/// Blocks in the chain; words of its records.
const BLOCKS: usize = 3;
pub(crate) const RECORD_WORDS: usize = 4;

/// Words of the driver's record.
pub(crate) const RECORD: usize = 9;

/// What the driver wrote down. Nothing in it is trusted by the kernel that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record(pub(crate) [u64; RECORD]);

impl Record {
    pub(crate) fn folio(self, which: usize) -> PhysAddr {
        PhysAddr::new(self.0[which])
    }

    pub(crate) fn pages(self) -> (PhysAddr, u64) {
        (PhysAddr::new(self.0[4]), self.0[5])
    }

    pub(crate) fn area(self) -> vmalloc::Descriptor {
        vmalloc::Descriptor {
            first: PhysAddr::new(self.0[6]),
            total_pages: self.0[7] as u32,
            flags: (self.0[7] >> 32) as u16,
            order: (self.0[7] >> 48) as u16,
        }
    }

    pub(crate) fn chain(self) -> PhysAddr {
        PhysAddr::new(self.0[8])
    }
}

/// What a page of metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Fdt,
    TreeNode,
    ScratchList,
    VmallocChunk,
    BlockHeader,
    Metadata,
    Record,
}

/// A page of metadata, and how many of its words are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) kind: Kind,
    pub(crate) at: PhysAddr,
    pub(crate) words: usize,
}

/// The handover.
pub(crate) struct Sample {
    pub(crate) handed: Handed,
    pub(crate) pages: Vec<Page>,
    /// What the driver wrote, and what each block it names holds.
    pub(crate) record: Record,
    pub(crate) folios: [Order; FOLIOS.len()],
    pub(crate) blocks: Vec<Pfn>,
    snapshot: Snapshot,
}

/// Writes to each frame where it is.
fn mark(range: PageRange) {
    for pfn in range.start.raw()..range.end.raw() {
        if let Some(frame) = Frame::at(Pfn::new(pfn).phys()) {
            frame.set_word(0, !pfn);
        }
    }
}

/// Whether frames hold what [`mark`] wrote.
pub(crate) fn is_marked(range: PageRange) -> bool {
    (range.start.raw()..range.end.raw())
        .all(|pfn| Frame::at(Pfn::new(pfn).phys()).is_some_and(|frame| frame.word(0) == !pfn))
}

fn an_order(raw: u32) -> Order {
    Order::new(raw).expect("small")
}

/// A folio, preserved.
fn a_folio(kernel: &mut Kernel, left: &mut Vec<u64>, order: Order) -> Pfn {
    let pfn = pages::alloc_folio(order).expect("memory");
    kernel.out.preserve_block(pfn, order).expect("memory");
    let range = PageRange::new(pfn, order.pages());
    left.extend(range.start.raw()..range.end.raw());
    mark(range);
    pfn
}

fn frame(pfn: Pfn) -> Frame {
    Frame::at(pfn.phys()).expect("allocated")
}

impl Sample {
    /// Makes it on a machine of its own.
    pub(crate) fn new() -> Self {
        let mut owner = Kernel::cold(small_machine());
        let (kernel, mut left) = (&mut owner, Vec::new());
        let mut record = Record([0; RECORD]);
        let folios = FOLIOS.map(an_order);
        for (word, order) in record.0.iter_mut().zip(folios) {
            *word = a_folio(kernel, &mut left, order).phys().raw();
        }

        let run = pages::alloc_folio(an_order(4)).expect("memory").plus(1);
        let run = PageRange::new(run, 13);
        kernel.out.preserve_pages(run).expect("memory");
        left.extend(run.start.raw()..run.end.raw());
        mark(run);
        record.0[4] = run.start.phys().raw();
        record.0[5] = run.pages();

        let area = FakeArea {
            order: Order::ZERO,
            blocks: (0..5)
                .map(|_| a_folio(kernel, &mut left, Order::ZERO))
                .collect(),
        };
        let descriptor = vmalloc::preserve(&mut kernel.out, &area, 1).expect("memory");
        // Two blocks go to a second chunk: a list may have chunks that are not full.
        let first = frame(descriptor.first.pfn());
        let second = frame(a_folio(kernel, &mut left, Order::ZERO));
        left.push(first.phys().pfn().raw());
        second.set_word(0, 0);
        for word in 1..3 {
            second.set_word(word, first.word(word + 3));
            first.set_word(word + 3, 0);
        }
        first.set_word(0, second.phys().raw());
        record.0[6] = descriptor.first.raw();
        record.0[7] = u64::from(descriptor.total_pages) | u64::from(descriptor.flags) << 32;

        let chain: Vec<Frame> = (0..BLOCKS)
            .map(|_| frame(a_folio(kernel, &mut left, Order::ZERO)))
            .collect();
        for (i, &link) in chain.iter().enumerate() {
            let next = chain.get(i + 1).map_or(PhysAddr::new(0), |b| b.phys());
            block::set_next(link, next);
            block::set_count(link, i as u64 + 1);
        }
        record.0[8] = chain[0].phys().raw();

        let named = frame(a_folio(kernel, &mut left, Order::ZERO));
        for (i, word) in record.0.iter().enumerate() {
            named.set_word(i, *word);
        }
        let bytes = RECORD as u64 * 8;
        kernel
            .out
            .add_subtree(NAME, named.phys(), bytes)
            .expect("room");
        let about = frame(a_folio(kernel, &mut left, Order::ZERO));
        let text = previous().encode();
        for (i, bytes) in text.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            about.set_word(i, u64::from_ne_bytes(word));
        }
        let len = text.len() as u64;
        kernel
            .out
            .add_subtree(metadata::NAME, about.phys(), len)
            .expect("room");

        let nodes = kernel.nodes();
        let mut list = Vec::new();
        let mut add = |kind, at, words| list.push(Page { kind, at, words });
        for node in nodes {
            add(Kind::TreeNode, Pfn::new(node).phys(), 512);
        }
        add(Kind::VmallocChunk, first.phys(), 512);
        add(Kind::VmallocChunk, second.phys(), 512);
        chain
            .iter()
            .for_each(|b| add(Kind::BlockHeader, b.phys(), 2));
        add(Kind::Record, named.phys(), RECORD);
        add(Kind::Metadata, about.phys(), text.len().div_ceil(8));
        let handed = owner.kexec(&left);
        add(Kind::Fdt, handed.fdt, 512);
        add(Kind::ScratchList, handed.list, handed.list_len as usize / 8);
        Self {
            handed,
            pages: list,
            record,
            folios,
            blocks: area.blocks,
            snapshot: Snapshot::take(handed),
        }
    }

    /// A word as it was handed over.
    pub(crate) fn word(&self, at: PhysAddr, word: usize) -> u64 {
        self.snapshot.word(at, word)
    }

    /// Hands it over with `damage` done to it, boots, and takes what can be had.
    fn boot_once(&self, handed: Handed, damage: impl FnOnce(&Self)) -> (Kernel, Found) {
        self.snapshot.hand_over();
        damage(self);
        let (mut kernel, refused) = Kernel::warm(handed);
        if let Some(why) = refused {
            assert!(kernel.incoming.is_none());
            assert_eq!(with(|m| m.count(Owner::Left)), 0);
            return (kernel, Found::Refused(why));
        }
        let idle = owned();
        let found = survey(&mut kernel, self, handed);
        assert_eq!(owned(), idle, "something is kept by nobody");
        (kernel, found)
    }

    /// As [`Self::boot`], for those in a hurry.
    pub(crate) fn boot_only(&self, damage: impl FnOnce(&Self)) {
        self.boot_once(self.handed, damage);
    }

    /// Hands it over with `damage` done to it, boots, takes what can be had, and shows that the
    /// machine is none the worse for it.
    pub(crate) fn boot(&self, handed: Handed, damage: impl FnOnce(&Self)) -> Found {
        let (kernel, found) = self.boot_once(handed, damage);
        with(|m| m.hostile = false);
        update_once_more(kernel);
        found
    }
}

/// What "kexec-metadata" says in the sample.
pub(crate) fn previous() -> Metadata {
    Metadata::new(b"7.3.4-sample", 3)
}

/// A live update in which nothing may go wrong.
fn update_once_more(mut kernel: Kernel) {
    let range = PageRange::new(pages::alloc_folio(an_order(2)).expect("memory"), 3);
    pages::free_folio(PageRange::new(range.end, 1));
    kernel.out.preserve_pages(range).expect("memory");
    mark(range);
    let left: Vec<u64> = (range.start.raw()..range.end.raw()).collect();
    let (mut kernel, refused) = Kernel::warm(kernel.kexec(&left));
    assert!(refused.is_none(), "the update after it: {refused:?}");
    assert!(kernel.restore_pages(range) && is_marked(range));
}
