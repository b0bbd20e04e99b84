// SPDX-License-Identifier: GPL-2.0

//! An array of records: pages of their own, which KHO hands over as a vmalloc area.
//!
//! They are never mapped. The list of a preserved vmalloc area names its pages, so records are
//! written and read a page at a time, and nothing has to be as large as the file.

use core::marker::PhantomData;

use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::outgoing::Outgoing;
use crate::kho::tree::NodeStore;
use crate::kho::vmalloc::{Descriptor, List};
use crate::sys::error::{Result, EFBIG, ENOMEM};
use crate::sys::pages::BuddyNodes;
use crate::sys::{cpu, Frame, FRAME_WORDS};

/// A record of an array: so many words, none of which lies in another page than the others.
pub(crate) trait Entry: Copy {
    const WORDS: usize;

    /// Records that a page holds.
    const PER_PAGE: u64 = (FRAME_WORDS / Self::WORDS) as u64;

    /// Writes it to a page, from that word on.
    fn store(&self, page: Frame, at: usize);

    /// Reads what [`Self::store`] wrote; `None` for an entry that stands for nothing.
    fn load(page: Frame, at: usize) -> Option<Self>;
}

/// The flags of an ordinary area (VM_ALLOC).
const ORDINARY: u16 = 1;

/// Records that are being built.
pub(crate) struct Table<E> {
    list: List,
    last: Option<Frame>,
    pages: u32,
    records: u64,
    of: PhantomData<E>,
}

impl<E: Entry> Table<E> {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            list: List::new()?,
            last: None,
            pages: 0,
            records: 0,
            of: PhantomData,
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.records
    }

    /// Appends a record. On failure nothing has changed.
    pub(crate) fn push(&mut self, record: E) -> Result {
        let place = self.records % E::PER_PAGE;
        if place == 0 {
            self.grow()?;
        }
        record.store(self.last.ok_or(ENOMEM)?, word(place, E::WORDS));
        self.records += 1;
        Ok(())
    }

    /// Forgets all but the first `records`. The pages stay.
    pub(crate) fn truncate(&mut self, records: u64) {
        self.records = self.records.min(records);
    }

    fn grow(&mut self) -> Result {
        let pages = self.pages.checked_add(1).ok_or(EFBIG)?;
        let page = BuddyNodes.alloc().ok_or(ENOMEM)?;
        if let Err(err) = self.list.push(page.phys()) {
            BuddyNodes.free(page);
            return Err(err);
        }
        (self.last, self.pages) = (Some(page), pages);
        Ok(())
    }

    /// The records so far.
    pub(crate) fn records(&self) -> Cursor<impl Iterator<Item = Pfn> + Clone + use<'_, E>, E> {
        records(self.list.blocks().map(PhysAddr::pfn), self.records)
    }

    /// Hands the pages and their list over.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; nothing is preserved then.
    pub(crate) fn preserve(&self, out: &mut Outgoing) -> Result<Descriptor> {
        self.list.preserve(out, Order::ZERO, self.pages, ORDINARY)
    }

    /// Gives back the pages and their list.
    pub(crate) fn free(self) {
        free_pages(self.list.blocks());
        self.list.free();
    }
}

/// Gives back pages of records.
pub(crate) fn free_pages(pages: impl Iterator<Item = PhysAddr>) {
    for page in pages.filter_map(Frame::at) {
        BuddyNodes.free(page);
    }
}

/// The first `count` records of the pages, those left out that stand for nothing.
pub(crate) fn records<P: Iterator<Item = Pfn> + Clone, E: Entry>(
    pages: P,
    count: u64,
) -> Cursor<P, E> {
    Cursor::new(pages, count)
}

/// A place in an array of records.
#[derive(Clone)]
pub(crate) struct Cursor<P, E> {
    pages: P,
    page: Option<Frame>,
    /// Of the next record in its page.
    place: u64,
    /// Records that are left.
    left: u64,
    peeked: Option<E>,
}

impl<P: Iterator<Item = Pfn>, E: Entry> Cursor<P, E> {
    /// At the start of `count` records.
    pub(crate) fn new(pages: P, count: u64) -> Self {
        Self {
            pages,
            page: None,
            place: E::PER_PAGE,
            left: count,
            peeked: None,
        }
    }

    /// The next record if `fits` says so; it stays the next one otherwise.
    pub(crate) fn next_if(&mut self, fits: impl FnOnce(&E) -> bool) -> Option<E> {
        if self.peeked.is_none() {
            self.peeked = self.read();
        }
        self.peeked.take_if(|record| fits(record))
    }

    fn read(&mut self) -> Option<E> {
        while self.left > 0 {
            if self.place == E::PER_PAGE {
                // There may be millions, and whoever reads them holds no spinlock.
                cpu::resched();
                self.page = self.pages.next().and_then(|pfn| Frame::at(pfn.phys()));
                self.place = 0;
            }
            let page = self.page?;
            let at = word(self.place, E::WORDS);
            self.place += 1;
            self.left -= 1;
            if let Some(record) = E::load(page, at) {
                return Some(record);
            }
        }
        None
    }
}

impl<P: Iterator<Item = Pfn>, E: Entry> Iterator for Cursor<P, E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        match self.peeked.take() {
            Some(record) => Some(record),
            None => self.read(),
        }
    }
}

/// The first word of the record at a place of its page.
fn word(place: u64, words: usize) -> usize {
    // A place is below the number of words in a page.
    usize::try_from(place).unwrap_or(0) * words
}
