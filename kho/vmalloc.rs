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
use crate::sys::pages::BuddyNodes;
use crate::sys::{Frame, FRAME_WORDS};

/// Blocks that one chunk lists.
const PER_CHUNK: usize = FRAME_WORDS - 1;

/// What a driver keeps of a preserved area: `struct kho_vmalloc`.
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
    let first = list(area)?;
    let descriptor = Descriptor {
        first: first.phys(),
        total_pages: area.pages(),
        flags,
        order: u16::try_from(order.raw()).map_err(|_| EINVAL)?,
    };
    let mut done = 0;
    let kept = runs(first, order).try_for_each(|(pfn, order, count)| {
        out.preserve_run(pfn, order, count)?;
        done += 1;
        Ok(())
    });
    if let Err(err) = kept {
        for (pfn, order, count) in runs(first, order).take(done) {
            out.unpreserve_run(pfn, order, count);
        }
        free_chain(first);
        return Err(err);
    }
    Ok(descriptor)
}

/// Undoes [`preserve`].
pub(crate) fn unpreserve(out: &mut Outgoing, descriptor: &Descriptor) {
    let order = Order::new(descriptor.order.into());
    if let (Some(first), Some(order)) = (Frame::at(descriptor.first), order) {
        for (pfn, order, count) in runs(first, order) {
            out.unpreserve_run(pfn, order, count);
        }
        free_chain(first);
    }
}

/// Writes the chain of chunks for an area.
fn list(area: &impl Area) -> Result<Frame> {
    let first = BuddyNodes.alloc().ok_or(ENOMEM)?;
    let (mut chunk, mut used) = (first, 0);
    let step = u32::try_from(area.order().pages()).map_err(|_| EINVAL)?;
    let mut index = 0;
    while index < area.pages() {
        if used == PER_CHUNK {
            let Some(next) = BuddyNodes.alloc() else {
                free_chain(first);
                return Err(ENOMEM);
            };
            chunk.set_word(0, next.phys().raw());
            (chunk, used) = (next, 0);
        }
        used += 1;
        chunk.set_word(used, area.pfn(index).phys().raw());
        index = index.saturating_add(step);
    }
    Ok(first)
}

fn free_chain(first: Frame) {
    let mut next = Some(first);
    while let Some(chunk) = next {
        next = Frame::at(PhysAddr::new(chunk.word(0)));
        BuddyNodes.free(chunk);
    }
}

/// The chunks of a chain from `first` on. Ends at the first link that names no frame.
fn chunks(first: Frame) -> impl Iterator<Item = Frame> {
    core::iter::successors(Some(first), |chunk| {
        Frame::at(PhysAddr::new(chunk.word(0)))
    })
}

/// Addresses of the blocks a chunk lists.
fn entries(chunk: Frame) -> impl Iterator<Item = PhysAddr> {
    (1..FRAME_WORDS)
        .map(move |word| PhysAddr::new(chunk.word(word)))
        .take_while(|phys| phys.raw() != 0)
}

/// Everything a chain stands for as runs of equal blocks: each chunk, and its blocks with
/// neighbours put together.
fn runs(first: Frame, order: Order) -> impl Iterator<Item = (Pfn, Order, u64)> {
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
            Some((start, order, count))
        });
        core::iter::once((chunk.phys().pfn(), Order::ZERO, 1)).chain(joined)
    })
}

/// A chain from the previous kernel that was checked and can be claimed.
pub(crate) struct Chain {
    first: Frame,
    order: Order,
    chunks: u64,
}

impl Chain {
    /// Checks a chain: every chunk and block waits in the incoming tree, and the counts agree.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for anything else, a cycle included: a chain of more chunks than its pages need
    /// is not followed.
    pub(crate) fn check(incoming: &mut Incoming, descriptor: &Descriptor) -> Result<Self> {
        let order = Order::new(descriptor.order.into()).ok_or(EINVAL)?;
        let blocks = u64::from(descriptor.total_pages) >> order.raw();
        if blocks << order.raw() != u64::from(descriptor.total_pages) {
            return Err(EINVAL);
        }
        // One more than full chunks need: a writer may have begun one it had no use for.
        let most = blocks / PER_CHUNK as u64 + 2;
        let (mut seen, mut listed) = (0, 0);
        let mut next = descriptor.first;
        while next.raw() != 0 {
            seen += 1;
            if seen > most || !next.is_page_aligned() {
                return Err(EINVAL);
            }
            if incoming.block_at(next.pfn()) != Some(Order::ZERO) {
                return Err(EINVAL);
            }
            let chunk = Frame::at(next).ok_or(EINVAL)?;
            for block in entries(chunk) {
                listed += 1;
                let waits = block.is_page_aligned()
                    && listed <= blocks
                    && incoming.block_at(block.pfn()) == Some(order);
                if !waits {
                    return Err(EINVAL);
                }
            }
            next = PhysAddr::new(chunk.word(0));
        }
        if seen == 0 || listed != blocks {
            return Err(EINVAL);
        }
        Ok(Self {
            first: Frame::at(descriptor.first).ok_or(EINVAL)?,
            order,
            chunks: seen,
        })
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// First frames of the blocks in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Pfn> + '_ {
        self.chunks()
            .flat_map(|chunk| entries(chunk).map(PhysAddr::pfn))
    }

    /// The chunks, as many as were checked.
    fn chunks(&self) -> impl Iterator<Item = Frame> + '_ {
        chunks(self.first).take(usize::try_from(self.chunks).unwrap_or(usize::MAX))
    }

    fn runs(&self) -> impl Iterator<Item = (Pfn, Order, u64)> + '_ {
        // `runs` yields a chunk's own frame before its blocks, so counting those bounds it.
        let order = self.order;
        self.chunks().flat_map(move |chunk| {
            core::iter::once((chunk.phys().pfn(), Order::ZERO, 1))
                .chain(entries(chunk).map(move |block| (block.pfn(), order, 1)))
        })
    }

    /// Claims the chunks and all blocks.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if something is listed twice; nothing is claimed then.
    pub(crate) fn claim(&self, incoming: &mut Incoming) -> Result {
        let mut done = 0;
        let claimed = self.runs().try_for_each(|(pfn, order, count)| {
            if !incoming.claim_run(pfn, order, count) {
                return Err(EINVAL);
            }
            done += 1;
            Ok(())
        });
        if let Err(err) = claimed {
            for (pfn, order, count) in self.runs().take(done) {
                incoming.unclaim_run(pfn, order, count)?;
            }
            return Err(err);
        }
        for (pfn, order, count) in self.runs() {
            incoming.finish_run(pfn, order, count);
        }
        Ok(())
    }

    /// The frames of the chunks: the caller's to free after [`Chain::claim`].
    ///
    /// Each is read for its link before it is yielded, so it may be freed at once.
    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Pfn> {
        let mut left = self.chunks;
        let mut next = Some(self.first);
        core::iter::from_fn(move || {
            let chunk = next?;
            left = left.checked_sub(1)?;
            next = Frame::at(PhysAddr::new(chunk.word(0)));
            Some(chunk.phys().pfn())
        })
    }
}
