// SPDX-License-Identifier: GPL-2.0

//! From a handed-over FDT to an [`Incoming`] that can be trusted, in the steps the boot allows.
//!
//! 1. [`judge_header`], before memory is known to memblock: FDT and scratch list.
//! 2. [`Handover::judge_tree`], when all memory is mapped but no allocator but memblock runs, and
//!    that one from scratch only: the tree's nodes and keys. After it, memory far from anything
//!    preserved is opened to memblock.
//! 3. [`Handover::reserve`], before anybody allocates who looks at memory that is not reserved
//!    whether or not it is scratch (CMA areas of several ranges do): what is preserved is reserved.
//! 4. [`Handover::arrive`], right before the page allocator takes over: its struct pages are made
//!    valid.
//! 5. [`Handover::free_gaps`], when it runs: memory that was reserved for lack of a finer list is
//!    freed.
//!
//! Up to step 3 a handover that is found wrong is refused as a whole, undone, and the machine boots
//! as if cold. Costs follow ranges and tree nodes; the one loop over pages is step 4's, over struct
//! pages.

use super::addr::{Order, PageRange, Pfn, PhysAddr};
use super::checksum;
use super::fdt::{self, Unusable};
use super::incoming::Incoming;
use super::key::Run;
use super::merge::{Fault, Head, Merge, ORDERS};
use super::plan::Plan;
use super::scratch::{BadList, List};
use super::subtrees::Subtrees;
use super::tree::Tree;
use crate::sys::boot_mem::BootSlice;
use crate::sys::error::{Error, ENOMEM};
use crate::sys::fdt::Blob;
use crate::sys::log::{self, Display};
use crate::sys::{early, pages, Frame, PAGE_SHIFT, SCRATCH_ALIGN};

/// Granularity in which memory without anything preserved is opened to early allocations, and so a
/// bound on how finely memblock's list is cut.
const OPEN_ALIGN_PAGES: u64 = 64 << (20 - PAGE_SHIFT);

/// Pages of the largest block of the page allocator.
const MERGE_PAGES: u64 = SCRATCH_ALIGN >> PAGE_SHIFT;

/// A handover that has been found wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// The FDT cannot be read as "kho-v4".
    Fdt(Unusable),
    /// The FDT or the list could not be mapped.
    Unmappable(PhysAddr, u64),
    /// The scratch list is wrong.
    Scratch(BadList),
    /// A node of the tree is not in RAM, not aligned, or in scratch.
    Node(PhysAddr),
    /// A node of the tree is reached twice.
    NodeTwice(PhysAddr),
    /// The tree claims more nodes than memory could hold.
    TooManyNodes,
    /// Something is preserved that is not RAM.
    NotRam(PhysAddr),
    /// Something is preserved that is in scratch.
    InScratch(PhysAddr),
    /// Something is preserved that firmware or this kernel has reserved.
    Reserved(PhysAddr),
    /// Something is preserved that this kernel has reserved after the tree was judged.
    Taken(PhysAddr),
    /// Two preservations, or one and the tree itself, claim the same memory.
    Twice(PhysAddr),
    /// The tree holds a number that is no key.
    NotAKey(u64),
    /// The FDT's own page is not preserved.
    FdtNotPreserved,
    /// The FDT was good when it was first read and is not any more.
    FdtChanged,
    /// Preserved memory is cut up by too many reservations of others.
    TooScattered,
    /// Memory ran out on the way.
    NoMemory(Error),
}

impl Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fdt(why) => {
                f.write_str("FDT ")?;
                why.fmt(f)
            }
            Self::Unmappable(at, len) => write!(f, "cannot map {len} bytes at {:#x}", at.raw()),
            Self::Scratch(why) => why.fmt(f),
            Self::Node(at) => write!(f, "tree node {:#x} is outside usable memory", at.raw()),
            Self::NodeTwice(at) => write!(f, "tree node {:#x} is used twice", at.raw()),
            Self::TooManyNodes => write!(f, "tree has more nodes than memory could hold"),
            Self::NotRam(at) => write!(f, "preserved memory at {:#x} is not RAM", at.raw()),
            Self::InScratch(at) => write!(f, "preserved memory at {:#x} is scratch", at.raw()),
            Self::Reserved(at) => write!(
                f,
                "preserved memory at {:#x} is reserved by firmware or this kernel",
                at.raw()
            ),
            Self::Taken(at) => write!(
                f,
                "this kernel has taken preserved memory at {:#x} while it booted",
                at.raw()
            ),
            Self::Twice(at) => write!(f, "memory at {:#x} is preserved twice", at.raw()),
            Self::NotAKey(key) => write!(f, "tree holds {key:#x}, which is no key"),
            Self::FdtNotPreserved => write!(f, "FDT page is not preserved"),
            Self::FdtChanged => write!(f, "FDT has changed since it was first read"),
            Self::TooScattered => write!(f, "preserved memory is too scattered to be listed"),
            Self::NoMemory(err) => write!(f, "no memory to read it ({err:?})"),
        }
    }
}

type Judged<T = ()> = core::result::Result<T, Refusal>;

/// Step 1: checks FDT and scratch list, and makes scratch the only memory that memblock has and
/// allocates from. Nothing has changed if it fails.
pub(crate) fn judge_header(
    fdt: PhysAddr,
    fdt_len: u64,
    list: PhysAddr,
    list_len: u64,
    scratch: &List,
) -> Judged {
    let mapped = early::Mapped::new(fdt, fdt_len).ok_or(Refusal::Unmappable(fdt, fdt_len))?;
    fdt::memory_map(&Blob::new(mapped.bytes())).map_err(Refusal::Fdt)?;
    drop(mapped);
    let mapped = early::Mapped::new(list, list_len).ok_or(Refusal::Unmappable(list, list_len))?;
    scratch.adopt(mapped.bytes()).map_err(Refusal::Scratch)?;
    drop(mapped);
    for (done, area) in scratch.areas().enumerate() {
        if area.size != 0 && early::open_scratch(area.start, area.size).is_err() {
            for area in scratch.areas().take(done + 1) {
                early::close_scratch(area.start, area.size);
            }
            scratch.clear();
            return Err(Refusal::NoMemory(ENOMEM));
        }
    }
    early::scratch_only(true);
    Ok(())
}

/// Undoes [`judge_header`], for a handover refused later.
pub(crate) fn forget_header(scratch: &List) {
    early::scratch_only(false);
    for area in scratch.areas() {
        early::close_scratch(area.start, area.size);
    }
    scratch.clear();
}

/// A handover whose tree was judged, on its way to an [`Incoming`].
pub(crate) struct Handover {
    tree: Tree,
    orders: u64,
    plan: Plan,
    /// Frames that are in use without a key: the tree's nodes and the FDT, ascending.
    pinned: BootSlice<u64>,
    /// For the merges of the tree.
    heads: BootSlice<Option<Head>>,
}

impl Handover {
    /// Step 2: checks the tree and opens memory far from anything preserved to memblock. Also says
    /// which subtrees are available.
    ///
    /// `fdt` is the FDT again, now in the direct map.
    pub(crate) fn judge_tree(
        fdt: &Blob<'_>,
        fdt_at: PhysAddr,
        scratch: &List,
    ) -> Judged<(Self, Subtrees)> {
        let root = fdt::memory_map(fdt).map_err(Refusal::Fdt)?;
        let mut free = FreeSpans::new();
        if !fdt_at.is_page_aligned() || !free.covers(PageRange::new(fdt_at.pfn(), 1)) {
            return Err(Refusal::FdtNotPreserved);
        }
        let mut usable =
            |at: PhysAddr| at.is_page_aligned() && free.covers(PageRange::new(at.pfn(), 1));
        if !usable(root) {
            return Err(Refusal::Node(root));
        }
        let tree = Tree::at(Frame::at(root).ok_or(Refusal::Node(root))?);
        let nodes = collect_nodes(tree, &mut usable)?;
        if let Some(page) = Frame::at(fdt_at) {
            checksum::compare(fdt, page, tree);
        }
        let own = Run::new(fdt_at.pfn(), Order::ZERO, 1).ok_or(Refusal::FdtNotPreserved)?;
        if !tree.has_all(own) {
            return Err(Refusal::FdtNotPreserved);
        }
        let mut plan = Plan::new().map_err(Refusal::NoMemory)?;
        let mut subtrees = Subtrees::list(fdt).map_err(Refusal::NoMemory)?;
        let heads = BootSlice::filled(ORDERS, || None);
        let mut heads = heads.ok_or(Refusal::NoMemory(ENOMEM))?;
        let mut ranges = Merge::new(&mut heads, tree, &nodes);
        let orders = ranges.orders();
        let mut gaps = FreeSpans::new();
        for range in ranges.by_ref() {
            if !free.covers(range) {
                return Err(what_is_there(range, scratch));
            }
            subtrees.meet(range);
            plan.push(range, |gap| gaps.holds(gap))
                .map_err(|_| Refusal::TooScattered)?;
        }
        match ranges.fault() {
            Some(Fault::Overlap(at)) => return Err(Refusal::Twice(at.phys())),
            Some(Fault::NotAKey(key)) => return Err(Refusal::NotAKey(key)),
            None => {}
        }
        // The FDT stays in use: its page is not for anybody to claim. Nothing is written before
        // this: what looks like a node of a bad tree may be somebody's data.
        let pinned = with_frame(&nodes, fdt_at.pfn())?;
        subtrees.exclude(&pinned);
        tree.take_out(own);
        let handover = Self {
            tree,
            orders,
            plan,
            pinned,
            heads,
        };
        handover.open_free_memory();
        Ok((handover, subtrees))
    }

    /// Marks what lies between the blocks as memory that early allocations may use. Without it, all
    /// of early boot would have to fit into scratch.
    fn open_free_memory(&self) {
        let mut from = Pfn::new(0);
        let ends = self.plan.blocks().iter().map(|block| block.frames);
        let last = PageRange::new(early::end_of_memory(), 0);
        for block in ends.chain(core::iter::once(last)) {
            let start = from.raw().next_multiple_of(OPEN_ALIGN_PAGES);
            let end = block.start.raw() / OPEN_ALIGN_PAGES * OPEN_ALIGN_PAGES;
            if start < end {
                early::open(PageRange::between(Pfn::new(start), Pfn::new(end)));
            }
            from = block.end;
        }
    }

    /// Step 3: reserves the blocks; nobody gets any of it from then on, and early allocations need
    /// no longer keep to what is open.
    ///
    /// # Errors
    ///
    /// [`Refusal::Taken`] when somebody has some of it already, [`Refusal::NoMemory`] when memblock
    /// cannot list the blocks; nothing is reserved or open then.
    pub(crate) fn reserve(&mut self) -> Judged {
        let reserved = self.reserve_all();
        match reserved {
            Ok(()) => early::scratch_only(false),
            Err(_) => early::close_scratch(PhysAddr::new(0), early::end_of_memory().phys().raw()),
        }
        reserved
    }

    fn reserve_all(&mut self) -> Judged {
        self.find_taken()?;
        let blocks = self.plan.blocks();
        for (done, block) in blocks.iter().enumerate() {
            if let Err(err) = early::reserve(block.frames) {
                for block in blocks.iter().take(done) {
                    let bytes = block.frames.pages() << PAGE_SHIFT;
                    early::free(block.frames.start.phys(), bytes);
                }
                return Err(Refusal::NoMemory(err));
            }
        }
        Ok(())
    }

    /// Looks whether somebody has reserved any of what is preserved since step 2. Where it is a
    /// gap, none of that block's may be freed later.
    fn find_taken(&mut self) -> Judged {
        let mut in_gaps = false;
        for index in 0..self.plan.blocks().len() {
            let Some(block) = self.plan.blocks().get(index).copied() else {
                break;
            };
            if !early::has_reserved(block.frames) {
                continue;
            }
            if !block.gaps {
                return Err(Refusal::Taken(block.frames.start.phys()));
            }
            in_gaps = true;
            log::pr_warn!(
                "gaps between preserved memory at {:#x} stay reserved\n",
                block.frames.start.phys().raw()
            );
            self.plan.keep_gaps(index);
        }
        if in_gaps {
            let mut ranges = Merge::new(&mut self.heads, self.tree, &self.pinned);
            let taken = ranges.find(|range| early::has_reserved(*range));
            if let Some(range) = taken {
                return Err(Refusal::Taken(range.start.phys()));
            }
        }
        Ok(())
    }

    /// Step 4: makes the struct pages of the blocks valid.
    pub(crate) fn arrive(&mut self) -> Incoming {
        for block in self.plan.blocks() {
            pages::init_reserved(block.frames);
        }
        self.init_neighbours();
        Incoming::new(self.tree, self.orders)
    }

    /// Makes the struct pages next to blocks readable. What is restored may be freed before
    /// deferred initialisation has come by, and freeing looks at all of the largest block it may
    /// merge with.
    fn init_neighbours(&self) {
        let mut from = Pfn::new(0);
        let last = PageRange::new(early::end_of_memory(), 0);
        let blocks = self.plan.blocks().iter().map(|block| block.frames);
        for block in blocks.chain(core::iter::once(last)) {
            let above = from.raw().next_multiple_of(MERGE_PAGES);
            let below = block.start.raw() / MERGE_PAGES * MERGE_PAGES;
            let (after, before) = (Pfn::new(above), Pfn::new(below).max(from));
            if after >= before {
                pages::init_free(PageRange::between(from, block.start));
            } else {
                pages::init_free(PageRange::between(from, after));
                pages::init_free(PageRange::between(before, block.start));
            }
            from = block.end;
        }
    }

    /// Step 5: frees the gaps in blocks. [`Incoming::settle`] follows it.
    ///
    /// What was given out since step 4 looks like a gap and is none: it is not marked reserved any
    /// more, and [`pages::free_reserved`] frees only what is.
    pub(crate) fn free_gaps(&mut self) {
        let blocks = self.plan.blocks();
        if !blocks.iter().any(|block| block.gaps) {
            return;
        }
        let ranges = Merge::new(&mut self.heads, self.tree, &self.pinned);
        if ranges.fault().is_some() {
            return;
        }
        let mut ranges = ranges.peekable();
        for block in blocks {
            let mut from = block.frames.start;
            while let Some(range) = ranges.next_if(|r| r.start < block.frames.end) {
                if block.gaps {
                    pages::free_reserved(PageRange::between(from, range.start));
                }
                from = range.end;
            }
            if block.gaps {
                pages::free_reserved(PageRange::between(from, block.frames.end));
            }
        }
    }
}

/// Lists the frames of a tree's nodes in ascending order, each checked and met once.
fn collect_nodes(tree: Tree, usable: &mut impl FnMut(PhysAddr) -> bool) -> Judged<BootSlice<u64>> {
    // A node takes a page and is listed by a word: a tree of distinct nodes has fewer than there
    // are pages, and one that claims an eighth of memory is no tree of preserved memory.
    let most = early::end_of_memory().raw() / 8;
    let mut count = 0;
    for node in tree.nodes(&mut *usable) {
        node.map_err(Refusal::Node)?;
        count += 1;
        if count > most {
            return Err(Refusal::TooManyNodes);
        }
    }
    let len = usize::try_from(count).map_err(|_| Refusal::TooManyNodes)?;
    let mut list = BootSlice::<u64>::new(len).ok_or(Refusal::NoMemory(ENOMEM))?;
    for (slot, node) in list.iter_mut().zip(tree.nodes(usable)) {
        *slot = node.map_err(Refusal::Node)?.pfn().raw();
    }
    list.sort_unstable();
    match list.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(&[twice, ..]) => Err(Refusal::NodeTwice(Pfn::new(twice).phys())),
        _ => Ok(list),
    }
}

/// A sorted list with one more frame in it.
fn with_frame(nodes: &[u64], frame: Pfn) -> Judged<BootSlice<u64>> {
    let mut list = BootSlice::<u64>::new(nodes.len() + 1).ok_or(Refusal::NoMemory(ENOMEM))?;
    let at = nodes.partition_point(|&node| node < frame.raw());
    if nodes.get(at) == Some(&frame.raw()) {
        return Err(Refusal::NodeTwice(frame.phys()));
    }
    let (below, above) = nodes.split_at(at);
    let one = [frame.raw()];
    let all = below.iter().chain(&one).chain(above);
    for (slot, value) in list.iter_mut().zip(all) {
        *slot = *value;
    }
    Ok(list)
}

/// Says why a range is not free memory.
fn what_is_there(range: PageRange, scratch: &List) -> Refusal {
    let mut at = range.start;
    while at < range.end {
        let span = early::free_span(at);
        if span.is_empty() {
            break;
        }
        at = span.end;
    }
    if let Some(scratch) = scratch.first_in(PageRange::between(at, range.end)) {
        Refusal::InScratch(scratch.phys())
    } else if early::ram_span(at).is_empty() {
        Refusal::NotRam(at.phys())
    } else {
        Refusal::Reserved(at.phys())
    }
}

/// Answers whether ranges are free memory: RAM that is mapped, not scratch, and that neither
/// firmware nor this kernel has reserved. Remembers the last stretch that was.
struct FreeSpans {
    last: PageRange,
}

impl FreeSpans {
    const fn new() -> Self {
        Self {
            last: PageRange::new(Pfn::new(0), 0),
        }
    }

    /// Whether the range lies in one stretch of one kind and node.
    fn holds(&mut self, range: PageRange) -> bool {
        if !self.last.contains(range) {
            self.last = early::free_span(range.start);
        }
        !self.last.is_empty() && self.last.contains(range)
    }

    /// Whether the range is made up of such stretches. Memory that is contiguous may still be of
    /// several nodes.
    fn covers(&mut self, range: PageRange) -> bool {
        let mut at = range.start;
        while at < range.end {
            if !self.holds(PageRange::new(at, 1)) {
                return false;
            }
            at = self.last.end;
        }
        true
    }
}
