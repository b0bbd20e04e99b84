// SPDX-License-Identifier: GPL-2.0

//! Preserved vmalloc areas: a chain of chunks that lists the area's pages.
//!
//! A chunk is a page: the address of the next chunk (zero: none), then addresses of blocks of
//! `1 << order` pages each, up to a zero. (Layout: include/linux/kho/abi/kexec_handover.h.) The
//! chunks and the blocks are preserved, each under a key of its own.

use super::addr::{Order, Pfn, PhysAddr};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::tree::NodeStore;
use crate::sys::error::{Result, EINVAL, ENOMEM};
use crate::sys::layout::{field, fingerprint};
use crate::sys::pages::BuddyNodes;
use crate::sys::{declare::Declared, declare_format, Frame, FRAME_WORDS};

/// Blocks that one chunk lists.
const PER_CHUNK: usize = FRAME_WORDS - 1;

declare_format! {
    /// Chunks, and what names the first of them. It goes with the version of the root FDT.
    FORMAT = Declared::new("kho-vmalloc", 1, "rw", LAYOUT);
}

const LAYOUT: u32 = fingerprint(&[
    &[field("next", 0, 8), field("phys", 8, PER_CHUNK * 8)],
    &[
        field("first", 0, 8),
        field("total_pages", 8, 4),
        field("flags", 12, 2),
        field("order", 14, 2),
    ],
]);

/// The driver's description of a preserved area: `struct kho_vmalloc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) first: PhysAddr,
    pub(crate) total_pages: u32,
    pub(crate) flags: u16,
    pub(crate) order: u16,
}

/// The pages of a vmalloc area.
pub(crate) trait Area {
    /// Pages in all; a multiple of `order().pages()`.
    fn pages(&self) -> u32;
    /// Order of the physically contiguous blocks the area is made of.
    fn order(&self) -> Order;
    /// First frame of the block that page number `index` is in the first of.
    fn pfn(&self, index: u32) -> Pfn;
}

/// Records an area: its pages and the chunks that list them.
///
/// # Errors
///
/// [`ENOMEM`]; nothing is preserved then.
pub(crate) fn preserve(out: &mut Outgoing, area: &impl Area, flags: u16) -> Result<Descriptor> {
    let order = area.order();
    let step = u32::try_from(order.pages()).map_err(|_| EINVAL)?;
    let mut list = List::new()?;
    let mut index = 0;
    let mut fill = || {
        while index < area.pages() {
            list.push(area.pfn(index).phys())?;
            index = index.saturating_add(step);
        }
        list.preserve(out, order, area.pages(), flags)
    };
    fill().inspect_err(|_| list.free())
}

/// Undoes [`preserve`].
pub(crate) fn unpreserve(out: &mut Outgoing, descriptor: &Descriptor) {
    unpreserve_list(out, descriptor);
    free_list(descriptor);
}

/// Removes what [`List::preserve`] recorded; the list itself stays.
pub(crate) fn unpreserve_list(out: &mut Outgoing, descriptor: &Descriptor) {
    let order = Order::new(descriptor.order.into());
    if let (Some(first), Some(order)) = (Frame::at(descriptor.first), order) {
        for part in parts(first, order) {
            let (pfn, of, count) = part.run(order);
            out.unpreserve_run(pfn, of, count);
        }
    }
}

/// A chain of chunks that is being built.
pub(crate) struct List {
    first: Frame,
    last: Frame,
    used: usize,
}

impl List {
    /// A chain of one chunk that lists nothing.
    pub(crate) fn new() -> Result<Self> {
        let first = BuddyNodes.alloc().ok_or(ENOMEM)?;
        Ok(Self {
            first,
            last: first,
            used: 0,
        })
    }

    /// Lists one more block. On failure nothing has changed.
    pub(crate) fn push(&mut self, block: PhysAddr) -> Result {
        if self.used == PER_CHUNK {
            let next = BuddyNodes.alloc().ok_or(ENOMEM)?;
            self.last.set_word(0, next.phys().raw());
            (self.last, self.used) = (next, 0);
        }
        self.used += 1;
        self.last.set_word(self.used, block.raw());
        Ok(())
    }

    /// The blocks listed, in order.
    #[cfg(any(CONFIG_LIVEUPDATE_MEMFD, not(kernel)))]
    pub(crate) fn blocks(&self) -> impl Iterator<Item = PhysAddr> + Clone {
        chunks(self.first).flat_map(entries)
    }

    /// Records the blocks, each of `order`, and the chunks.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; nothing is recorded then.
    pub(crate) fn preserve(
        &self,
        out: &mut Outgoing,
        order: Order,
        total_pages: u32,
        flags: u16,
    ) -> Result<Descriptor> {
        let descriptor = Descriptor {
            first: self.first.phys(),
            total_pages,
            flags,
            order: u16::try_from(order.raw()).map_err(|_| EINVAL)?,
        };
        let mut done = 0;
        let kept = parts(self.first, order).try_for_each(|part| {
            let (pfn, of, count) = part.run(order);
            out.preserve_run(pfn, of, count)?;
            done += 1;
            Ok(())
        });
        if let Err(err) = kept {
            for part in parts(self.first, order).take(done) {
                let (pfn, of, count) = part.run(order);
                out.unpreserve_run(pfn, of, count);
            }
            return Err(err);
        }
        Ok(descriptor)
    }

    /// Gives back the chunks; what they list is the caller's.
    pub(crate) fn free(&self) {
        free_chain(self.first);
    }
}

/// Gives back the chunks of a list that is not preserved any more.
pub(crate) fn free_list(descriptor: &Descriptor) {
    if let Some(first) = Frame::at(descriptor.first) {
        free_chain(first);
    }
}

/// The blocks that a chain of this kernel's own lists.
#[cfg(any(CONFIG_LIVEUPDATE_MEMFD, not(kernel)))]
pub(crate) fn listed(descriptor: &Descriptor) -> impl Iterator<Item = PhysAddr> + Clone {
    Frame::at(descriptor.first)
        .into_iter()
        .flat_map(|first| chunks(first).flat_map(entries))
}

fn free_chain(first: Frame) {
    let mut next = Some(first);
    while let Some(chunk) = next {
        next = next_chunk(chunk);
        BuddyNodes.free(chunk);
    }
}

/// The chunks of a chain from `first` on, up to the first link that names no frame. A chunk's link
/// is read when the next one is asked for, and not before.
fn chunks(first: Frame) -> impl Iterator<Item = Frame> + Clone {
    let mut last = None;
    core::iter::from_fn(move || {
        let chunk = match last {
            None => first,
            Some(last) => next_chunk(last)?,
        };
        last = Some(chunk);
        Some(chunk)
    })
}

fn next_chunk(chunk: Frame) -> Option<Frame> {
    Frame::at(PhysAddr::new(chunk.word(0)))
}

/// Addresses of the blocks a chunk lists.
fn entries(chunk: Frame) -> impl Iterator<Item = PhysAddr> + Clone {
    (1..FRAME_WORDS)
        .map(move |word| PhysAddr::new(chunk.word(word)))
        .take_while(|phys| phys.raw() != 0)
}

/// A part of a preserved area that is a run of keys.
#[derive(Clone, Copy)]
enum Part {
    /// A chunk of the list.
    Chunk(Frame),
    /// So many contiguous blocks of the area's order.
    Blocks(Pfn, u64),
}

impl Part {
    /// The keys of it: first frame, order, count.
    fn run(self, order: Order) -> (Pfn, Order, u64) {
        match self {
            Self::Chunk(chunk) => (chunk.phys().pfn(), Order::ZERO, 1),
            Self::Blocks(pfn, count) => (pfn, order, count),
        }
    }
}

/// Everything a chain stands for: each chunk, then its blocks, neighbours put together. Nothing of
/// a chunk is read before the chunk itself has been yielded and the next part is asked for.
fn parts(first: Frame, order: Order) -> impl Iterator<Item = Part> {
    chunks(first).flat_map(move |chunk| {
        let mut blocks = entries(chunk).map(PhysAddr::pfn).peekable();
        let joined = core::iter::from_fn(move || {
            let start = blocks.next()?;
            let mut count = 1;
            while blocks
                .next_if_eq(&start.plus(count << order.raw()))
                .is_some()
            {
                count += 1;
            }
            Some(Part::Blocks(start, count))
        });
        core::iter::once(Part::Chunk(chunk)).chain(joined)
    })
}

/// A chain from the previous kernel whose chunks and blocks have been claimed, all or none.
///
/// Claimed first and looked at as it goes, so that nobody else can change what is read, and
/// something listed twice is found at once: it cannot be claimed twice.
pub(crate) struct Chain {
    first: Frame,
    order: Order,
}

impl Chain {
    /// Claims a chain: every chunk and block of it waits in the incoming tree, and the counts
    /// agree.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for anything else; nothing is claimed then. Not more is looked at than was really
    /// preserved, whatever the descriptor says.
    pub(crate) fn claim(incoming: &mut Incoming, descriptor: &Descriptor) -> Result<Self> {
        let order = Order::new(descriptor.order.into()).ok_or(EINVAL)?;
        let first = Frame::at(descriptor.first).ok_or(EINVAL)?;
        let (mut claimed, mut pages) = (0, 0);
        let sound = parts(first, order).all(|part| {
            let (pfn, of, count) = part.run(order);
            if !incoming.claim_run(pfn, of, count) {
                return false;
            }
            claimed += 1;
            match part {
                Part::Chunk(chunk) => entries(chunk).all(PhysAddr::is_page_aligned),
                Part::Blocks(..) => {
                    pages += count << order.raw();
                    true
                }
            }
        });
        if sound && pages == u64::from(descriptor.total_pages) {
            return Ok(Self { first, order });
        }
        for part in parts(first, order).take(claimed) {
            let (pfn, of, count) = part.run(order);
            incoming.unclaim_run(pfn, of, count)?;
        }
        Err(EINVAL)
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// First frames of the blocks in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Pfn> + Clone + use<> {
        chunks(self.first).flat_map(|chunk| entries(chunk).map(PhysAddr::pfn))
    }

    /// Undoes [`Chain::claim`].
    pub(crate) fn unclaim(self, incoming: &mut Incoming) -> Result {
        parts(self.first, self.order).try_for_each(|part| {
            let (pfn, of, count) = part.run(self.order);
            incoming.unclaim_run(pfn, of, count)
        })
    }

    /// Makes the claim final: gives back nodes of the tree that got empty.
    pub(crate) fn finish(&self, incoming: &mut Incoming) {
        for part in parts(self.first, self.order) {
            let (pfn, of, count) = part.run(self.order);
            incoming.finish_run(pfn, of, count);
        }
    }

    /// The frames of the chunks, to be freed. A chunk's link is read before the chunk is yielded,
    /// so it may be freed at once.
    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Pfn> {
        let mut next = Some(self.first);
        core::iter::from_fn(move || {
            let chunk = next?;
            next = next_chunk(chunk);
            Some(chunk.phys().pfn())
        })
    }
}
