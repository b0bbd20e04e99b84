// SPDX-License-Identifier: GPL-2.0

//! Blocks that arrived: a chain is claimed while it is walked, so that nothing is read that was not
//! preserved and a chain that meets itself ends there. Then all of it is put back.
//!
//! To have read a page is not to own it: a link that is wrong may lead into somebody's memory that
//! looks like a block. So [`Blocks`] are freed last, once everybody who owns something has had the
//! chance to ask for it; what was asked for is not freed. (A chain that is cut short cannot be told
//! from one that is short, unless its owner knows how many records there should be.)

use zerocopy::{FromBytes, IntoBytes};

use super::addr::{Order, PageRange, PhysAddr};
use super::block::{self, HEADER, MAX_BLOCKS};
use super::incoming::Incoming;
use super::tree::NodeStore;
use super::words;
use crate::kho::state as handover;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::Result;
use crate::sys::log;
use crate::sys::pages::{self, BuddyNodes};
use crate::sys::Frame;

/// A fault of a chain, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A link to what is not a preserved page, or one that was met before.
    Link(PhysAddr),
    /// A block that says it has so many records.
    Count(PhysAddr, u64),
    /// More blocks than a chain may have.
    Length,
}

impl log::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Link(at) => write!(f, "a link to {:#x}, which is no block", at.raw()),
            Self::Count(at, count) => write!(f, "block {:#x} counts {count} records", at.raw()),
            Self::Length => write!(f, "more than {MAX_BLOCKS} blocks"),
        }
    }
}

/// The blocks of a chain up to its end or its first fault, claimed. Dropping it puts them back:
/// that cannot fail, as no node of the tree is given back while this lives.
pub(crate) struct Chain {
    blocks: KVVec<Frame>,
    pub(crate) fault: Option<Fault>,
}

impl Chain {
    /// Claims the chain that begins at `head`, of records of type `T`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing is claimed then.
    pub(crate) fn claim<T>(head: PhysAddr) -> Result<Self> {
        handover::incoming(|incoming| {
            incoming.hold();
            Some(())
        });
        let mut chain = Self {
            blocks: KVVec::new(),
            fault: None,
        };
        let most = block::records_per_block(size_of::<T>());
        let mut at = head;
        while at.raw() != 0 {
            if chain.blocks.len() == MAX_BLOCKS {
                chain.fault = Some(Fault::Length);
                break;
            }
            chain.blocks.reserve(1, GFP_KERNEL)?;
            let Some(found) = claim_page(at) else {
                chain.fault = Some(Fault::Link(at));
                break;
            };
            chain.blocks.push(found, GFP_KERNEL)?;
            let count = block::count(found);
            if !(1..=most).contains(&count) {
                chain.blocks.pop();
                put_back(found);
                chain.fault = Some(Fault::Count(at, count));
                break;
            }
            at = block::next(found);
        }
        Ok(chain)
    }

    /// The records in order.
    pub(crate) fn records<T: FromBytes + IntoBytes>(&self) -> impl Iterator<Item = T> + '_ {
        let most = block::records_per_block(size_of::<T>());
        self.blocks.iter().flat_map(move |&frame| {
            // What the count was when it was claimed it still is: nobody else has the page.
            let count = block::count(frame).min(most) as usize;
            (0..count).map(move |i| words::read(frame, HEADER + i * size_of::<T>()))
        })
    }

    /// Puts the blocks back, but remembers them.
    pub(crate) fn into_blocks(mut self) -> Blocks {
        let blocks = core::mem::replace(&mut self.blocks, KVVec::new());
        blocks.iter().for_each(|frame| put_back(*frame));
        Blocks(blocks)
    }
}

/// Pages that were read and wait, for ever unless they are freed.
pub(crate) struct Blocks(KVVec<Frame>);

impl Blocks {
    pub(crate) const fn none() -> Self {
        Self(KVVec::new())
    }

    /// Adds a page that was read and waits.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add(&mut self, page: Frame) -> Result {
        Ok(self.0.push(page, GFP_KERNEL)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Frame> + '_ {
        self.0.iter().copied()
    }

    /// Gives those that nobody has asked for to the page allocator.
    pub(crate) fn free(&mut self) {
        while let Some(frame) = self.0.pop() {
            if let Some(frame) = claim_page(frame.phys()) {
                free_claimed(frame);
            }
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        while let Some(frame) = self.blocks.pop() {
            put_back(frame);
        }
        handover::incoming(|incoming| {
            incoming.release();
            Some(())
        });
    }
}

/// Claims a page of its own that was handed over; `None` if there is none at that address.
pub(crate) fn claim_page(at: PhysAddr) -> Option<Frame> {
    if !at.is_page_aligned() {
        return None;
    }
    let claim =
        |incoming: &mut Incoming| incoming.claim_run(at.pfn(), Order::ZERO, 1).then_some(());
    handover::incoming(claim)?;
    Frame::at(at)
}

/// Undoes [`claim_page`].
pub(crate) fn put_back(frame: Frame) {
    handover::incoming(|incoming| {
        incoming
            .unclaim_run(frame.phys().pfn(), Order::ZERO, 1)
            .ok()
    });
}

/// Gives a page claimed by [`claim_page`] to the page allocator. Bad memory stays reserved.
pub(crate) fn free_claimed(frame: Frame) {
    let pfn = frame.phys().pfn();
    handover::incoming(|incoming| {
        incoming.finish_run(pfn, Order::ZERO, 1);
        Some(())
    });
    if pages::give_out_pages(PageRange::new(pfn, 1)) {
        BuddyNodes.free(frame);
    }
}
