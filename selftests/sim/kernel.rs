// SPDX-License-Identifier: GPL-2.0

//! One simulated kernel from boot to kexec.

use std::cell::RefCell;
use std::ffi::CStr;
use std::ops::{Deref, DerefMut};

use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::boot::{forget_header, judge_header, Handover, Refusal};
use crate::kho::fdt::Subtree;
use crate::kho::incoming::Incoming;
use crate::kho::key::{order_of, pfn_of};
use crate::kho::outgoing::Outgoing;
use crate::kho::scratch::List;
use crate::kho::scratch_args::Sizing;
use crate::kho::state;
use crate::kho::subtrees::Subtrees;
use crate::kho::tree::Tree;
use crate::kho::vmalloc::{Area, Chain, Descriptor};
use crate::sys::error::{Result, EINVAL, ENOENT};
use crate::sys::fdt::Blob;
use crate::sys::machine::{self, with, Config, Owner};
use crate::sys::{early, pages, Frame, FRAME_WORDS};

/// Memory of the machines in these tests: two nodes, a hole at the start.
pub(crate) fn small_machine() -> Config {
    Config {
        nodes: vec![6144, 2048],
        hole: 256,
    }
}

/// Scratch of the machines in these tests: 4 MiB low, 4 MiB anywhere, none a node.
const SIZING: Sizing = Sizing::Bytes {
    low: 1 << 20,
    global: 4 << 20,
    per_node: 0,
};

/// A running kernel.
pub(crate) struct Kernel {
    pub(crate) out: Lent,
    pub(crate) incoming: Option<Incoming>,
    subtrees: Option<Subtrees>,
    scratch: &'static List,
}

/// What a kexec hands over besides memory: the addresses of FDT and scratch list.
#[derive(Clone, Copy)]
pub(crate) struct Handed {
    pub(crate) fdt: PhysAddr,
    pub(crate) list: PhysAddr,
    pub(crate) list_len: u64,
}

/// When something else of the boot allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Only scratch is known to be good.
    HeaderJudged,
    /// The tree was judged, nothing is reserved.
    TreeJudged,
    /// What is preserved is reserved.
    Reserved,
}

impl Kernel {
    /// Boots a new machine without a handover.
    pub(crate) fn cold(config: Config) -> Self {
        Self::cold_with(config, 0)
    }

    /// As [`Self::cold`], with so many frames at the end that were added since.
    pub(crate) fn cold_with(config: Config, added: u64) -> Self {
        machine::install(config);
        with(|m| m.added = added);
        let scratch = a_list();
        with(|m| m.slab = false);
        scratch.reserve(SIZING).expect("room for scratch");
        for area in scratch.areas() {
            early::open_scratch(area.start, area.size).expect("scratch");
            early::free(area.start, area.size);
        }
        with(|m| m.start_page_allocator());
        Self {
            out: Lent(Some(
                Outgoing::create(scratch).expect("memory for an empty record"),
            )),
            incoming: None,
            subtrees: None,
            scratch,
        }
    }

    /// Frames of the outgoing tree's nodes.
    pub(crate) fn nodes(&self) -> Vec<u64> {
        nodes(&self.out)
    }

    /// Frames of the incoming tree's nodes.
    pub(crate) fn incoming_nodes(&self) -> Vec<u64> {
        let nodes = self.incoming.iter().flat_map(|i| i.tree().nodes(|_| true));
        nodes
            .map(|node| node.expect("a judged tree").pfn().raw())
            .collect()
    }

    /// Puts the scratch list where the next kernel finds it, and replaces this kernel. `preserved`
    /// says what the caller thinks is preserved; all else is destroyed but the tree.
    pub(crate) fn kexec(mut self, preserved: &[u64]) -> Handed {
        self.subtrees = None;
        self.out.seal().expect("the FDT is not full");
        let mut left = self.nodes();
        let fdt = self.out.fdt().expect("made at boot").page().frame().phys();
        left.push(fdt.pfn().raw());
        left.extend_from_slice(preserved);
        let entries = self.scratch.entries();
        let words: Vec<u64> = entries
            .iter()
            .flatten()
            .map(|word| word.load(std::sync::atomic::Ordering::Relaxed))
            .collect();
        with(|m| m.kexec(&left));
        // The list goes into scratch, like the rest of the next kernel's image.
        let place = self.scratch.areas().find(|a| a.size != 0).expect("scratch");
        for (i, word) in words.iter().enumerate() {
            with(|m| m.poke(place.start, i, *word));
        }
        Handed {
            fdt,
            list: place.start,
            list_len: words.len() as u64 * 8,
        }
    }

    /// Boots from a handover; if that is refused, boots as if cold and says why.
    pub(crate) fn warm(handed: Handed) -> (Self, Option<Refusal>) {
        Self::warm_after(handed, || {})
    }

    /// As [`Self::warm`], with something that the kernel does between the two steps of judging.
    pub(crate) fn warm_after(
        handed: Handed,
        mut meanwhile: impl FnMut(),
    ) -> (Self, Option<Refusal>) {
        Self::warm_while(handed, |moment| {
            if moment == Moment::HeaderJudged {
                meanwhile();
            }
        })
    }

    /// As [`Self::warm`], with something that the kernel does between the steps.
    pub(crate) fn warm_while(
        handed: Handed,
        mut meanwhile: impl FnMut(Moment),
    ) -> (Self, Option<Refusal>) {
        let scratch = a_list();
        let mut refused = None;
        let mut handover = None;
        let mut subtrees = None;
        match judge_header(handed.fdt, 4096, handed.list, handed.list_len, scratch) {
            Ok(()) => {
                meanwhile(Moment::HeaderJudged);
                let fdt = early::Mapped::new(handed.fdt, 4096).expect("it was judged");
                match Handover::judge_tree(&Blob::new(fdt.bytes()), handed.fdt, scratch) {
                    Ok((judged, found)) => {
                        handover = Some(judged);
                        subtrees = Some(found);
                    }
                    Err(why) => {
                        forget_header(scratch);
                        refused = Some(why);
                    }
                }
            }
            Err(why) => refused = Some(why),
        }
        meanwhile(Moment::TreeJudged);
        if let Some(Err(why)) = handover.as_mut().map(Handover::reserve) {
            handover = None;
            subtrees = None;
            forget_header(scratch);
            refused = Some(why);
        }
        meanwhile(Moment::Reserved);
        let mut incoming = None;
        if let Some(judged) = handover.as_mut() {
            incoming = Some(judged.arrive());
        } else {
            with(|m| m.forget_left());
            scratch.reserve(SIZING).expect("room for scratch");
            for area in scratch.areas() {
                early::open_scratch(area.start, area.size).expect("scratch");
                early::free(area.start, area.size);
            }
        }
        with(|m| m.start_page_allocator());
        if let (Some(mut judged), Some(incoming)) = (handover, incoming.as_mut()) {
            judged.free_gaps();
            incoming.settle();
        }
        let kernel = Self {
            out: Lent(Some(
                Outgoing::create(scratch).expect("memory for an empty record"),
            )),
            incoming,
            subtrees,
            scratch,
        };
        (kernel, refused)
    }

    /// Lends its records to what stands on KHO and asks for them by [`state`].
    pub(crate) fn lend(&mut self) {
        let out = self.out.0.take().expect("not lent yet");
        state::install(out, self.incoming.take());
    }

    /// Undoes [`Self::lend`].
    pub(crate) fn take_back(&mut self) {
        (self.out.0, self.incoming) = state::take();
    }

    /// Looks a subtree of the handover up, as the C API does.
    pub(crate) fn subtree(&self, fdt: &Blob<'_>, name: &CStr) -> Result<Subtree> {
        self.subtrees.as_ref().ok_or(ENOENT)?.find(fdt, name)
    }

    /// Restores a folio, as the C API does.
    pub(crate) fn restore_folio(&mut self, pfn: Pfn) -> Option<Order> {
        let order = self.incoming.as_mut()?.claim_block(pfn)?;
        pages::give_out_folio(pfn, order);
        Some(order)
    }

    /// Restores pages, as the C API does.
    pub(crate) fn restore_pages(&mut self, range: PageRange) -> bool {
        let claimed = self.incoming.as_mut().is_some_and(|i| i.claim_pages(range));
        claimed && pages::give_out_pages(range)
    }

    /// Restores a vmalloc area, as the C API does; returns the first frames of its blocks.
    pub(crate) fn restore_vmalloc(&mut self, descriptor: &Descriptor) -> Result<Vec<Pfn>> {
        let incoming = self.incoming.as_mut().ok_or(EINVAL)?;
        let chain = Chain::claim(incoming, descriptor)?;
        let blocks: Vec<Pfn> = chain.blocks().collect();
        let order = chain.order();
        // As when mapping it fails, and it is tried again.
        chain.unclaim(incoming)?;
        let chain = Chain::claim(incoming, descriptor)?;
        chain.finish(incoming);
        for &block in &blocks {
            pages::give_out_pages(PageRange::new(block, order.pages()));
        }
        for chunk in chain.into_chunks() {
            let frame = PageRange::new(chunk, 1);
            pages::give_out_pages(frame);
            pages::free_folio(frame);
        }
        Ok(blocks)
    }
}

fn tree(out: &Outgoing) -> Tree {
    let page = out.fdt().expect("made at boot").page().frame();
    let bytes = frame_bytes(page);
    let root = crate::kho::fdt::memory_map(&Blob::new(&bytes)).expect("own FDT");
    Tree::at(Frame::at(root).expect("own root"))
}

/// Frames of an outgoing tree's nodes.
pub(crate) fn nodes(out: &Outgoing) -> Vec<u64> {
    tree(out)
        .nodes(|_| true)
        .map(|node| node.expect("own tree").pfn().raw())
        .collect()
}

/// Frames that an outgoing tree says are preserved.
pub(crate) fn preserved(out: &Outgoing) -> Vec<u64> {
    let keys = tree(out)
        .runs(0, u64::MAX)
        .flat_map(|run| run.first..run.end());
    keys.flat_map(|key| {
        let order = order_of(key).expect("own key");
        let first = pfn_of(key, order).raw();
        first..first + order.pages()
    })
    .collect()
}

/// A kernel's outgoing record, unless it is lent.
pub(crate) struct Lent(Option<Outgoing>);

impl Deref for Lent {
    type Target = Outgoing;

    fn deref(&self) -> &Outgoing {
        self.0.as_ref().expect("not lent")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Outgoing {
        self.0.as_mut().expect("not lent")
    }
}

thread_local! {
    static LISTS: RefCell<Vec<&'static List>> = const { RefCell::new(Vec::new()) };
}

/// An empty list of scratch areas: a static in a real kernel, used again here.
fn a_list() -> &'static List {
    let list = LISTS.with_borrow_mut(Vec::pop);
    let list = list.unwrap_or_else(|| Box::leak(Box::new(List::new())));
    list.clear();
    list
}

impl Drop for Kernel {
    fn drop(&mut self) {
        LISTS.with_borrow_mut(|lists| lists.push(self.scratch));
    }
}

/// The words of a frame, whoever owns it.
pub(crate) fn words_at(at: PhysAddr) -> Vec<u64> {
    with(|m| (0..FRAME_WORDS).map(|word| m.peek(at, word)).collect())
}

/// The bytes of a frame.
pub(crate) fn frame_bytes(frame: Frame) -> Vec<u8> {
    (0..512).flat_map(|i| frame.word(i).to_ne_bytes()).collect()
}

/// A vmalloc area of blocks of one order.
pub(crate) struct FakeArea {
    pub(crate) order: Order,
    pub(crate) blocks: Vec<Pfn>,
}

impl Area for FakeArea {
    fn pages(&self) -> u32 {
        (self.blocks.len() as u32) << self.order.raw()
    }

    fn order(&self) -> Order {
        self.order
    }

    fn pfn(&self, index: u32) -> Pfn {
        let block = self.blocks[(index >> self.order.raw()) as usize];
        block.plus(u64::from(index) % self.order.pages())
    }
}

/// Frames the running kernel owns.
pub(crate) fn owned() -> u64 {
    with(|m| m.count(Owner::Kernel))
}

/// What the running kernel owned at some time, to find out later what was never given back.
pub(crate) struct Ledger(Vec<u64>);

impl Ledger {
    /// Takes note of what is owned now.
    pub(crate) fn open() -> Self {
        let frames = with(|m| m.frames_of(Owner::Kernel));
        Self(frames.into_iter().map(|(pfn, _)| pfn).collect())
    }

    /// Frames that are owned now and were not: a line each, with the number of the allocation they
    /// come from, which `faults.nth` takes.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let now = with(|m| m.frames_of(Owner::Kernel));
        let new = now
            .into_iter()
            .filter(|(pfn, _)| self.0.binary_search(pfn).is_err());
        new.map(|(pfn, number)| format!("frame {pfn:#x} of allocation {number}"))
            .collect()
    }

    /// Demands that exactly the same frames are owned as when it was opened.
    #[track_caller]
    pub(crate) fn close(self) {
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "never given back: {leaks:#?}");
        let now = Self::open();
        let lost: Vec<_> = self.0.iter().filter(|pfn| !now.0.contains(pfn)).collect();
        assert!(lost.is_empty(), "given back, but not to be: {lost:#x?}");
    }
}
