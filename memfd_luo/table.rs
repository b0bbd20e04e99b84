// SPDX-License-Identifier: GPL-2.0

//! The array of records: pages of their own, which KHO hands over as a vmalloc area.
//!
//! They are never mapped. The list of a preserved vmalloc area names its pages, so records are
//! written and read a page at a time, and nothing has to be as large as the file.

use super::format::{Record, PER_PAGE};
use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::outgoing::Outgoing;
use crate::kho::tree::NodeStore;
use crate::kho::vmalloc::{Descriptor, List};
use crate::sys::error::{Result, EFBIG, ENOMEM};
use crate::sys::pages::BuddyNodes;
use crate::sys::Frame;

/// What the area's flags say: an ordinary one (VM_ALLOC).
const ORDINARY: u16 = 1;

/// Records in the making.
pub(crate) struct Table {
    list: List,
    last: Option<Frame>,
    pages: u32,
    records: u64,
}

impl Table {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            list: List::new()?,
            last: None,
            pages: 0,
            records: 0,
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.records
    }

    /// Appends a record. On failure nothing has changed.
    pub(crate) fn push(&mut self, record: Record) -> Result {
        let place = self.records % PER_PAGE;
        if place == 0 {
            self.grow()?;
        }
        let page = self.last.ok_or(ENOMEM)?;
        for (word, value) in words(place).zip(record.encode()) {
            page.set_word(word, value);
        }
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
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
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

/// The first `count` records of the pages, those left out that stand for no folio.
pub(crate) fn records(
    pages: impl Iterator<Item = Pfn> + Clone,
    count: u64,
) -> Cursor<impl Iterator<Item = Pfn> + Clone> {
    Cursor::new(pages, count)
}

/// A place in an array of records.
#[derive(Clone)]
pub(crate) struct Cursor<P> {
    pages: P,
    page: Option<Frame>,
    /// Of the next record in its page.
    place: u64,
    /// Records that are left.
    left: u64,
    peeked: Option<Record>,
}

impl<P: Iterator<Item = Pfn>> Cursor<P> {
    /// At the start of `count` records.
    pub(crate) fn new(pages: P, count: u64) -> Self {
        Self {
            pages,
            page: None,
            place: PER_PAGE,
            left: count,
            peeked: None,
        }
    }

    /// The next record if `fits` says so; it stays the next one otherwise.
    pub(crate) fn next_if(&mut self, fits: impl FnOnce(&Record) -> bool) -> Option<Record> {
        if self.peeked.is_none() {
            self.peeked = self.read();
        }
        self.peeked.take_if(|record| fits(record))
    }

    fn read(&mut self) -> Option<Record> {
        while self.left > 0 {
            if self.place == PER_PAGE {
                self.page = self.pages.next().and_then(|pfn| Frame::at(pfn.phys()));
                self.place = 0;
            }
            let page = self.page?;
            let [first, second] = pair(self.place);
            self.place += 1;
            self.left -= 1;
            // An entry that stands for no folio is passed over.
            if let Some(record) = Record::decode([page.word(first), page.word(second)]) {
                return Some(record);
            }
        }
        None
    }
}

impl<P: Iterator<Item = Pfn>> Iterator for Cursor<P> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        match self.peeked.take() {
            Some(record) => Some(record),
            None => self.read(),
        }
    }
}

/// The two words of the record at a place of its page.
fn pair(place: u64) -> [usize; 2] {
    // A place is below PER_PAGE.
    let first = usize::try_from(place).unwrap_or(0) << 1;
    [first, first | 1]
}

fn words(place: u64) -> impl Iterator<Item = usize> {
    pair(place).into_iter()
}
