// SPDX-License-Identifier: GPL-2.0

//! After the kexec, from "memfd-v3": a memfd with its holes is built of extents, or given back.
//!
//! As in [`super::retrieve`], nothing is believed: the checksum must fit, each extent must have a
//! place of its own in the file, and its folios must wait in the incoming tree. All are claimed
//! before the first of them is put into a file.

use super::extents::Header;
use super::fill::{fill_with, steps, take_out};
use super::format::Refusal;
use super::merge::Pieces;
use super::retrieve::{claim_metadata, free_metadata, pages_of, put_back_metadata, unclaim};
use super::table::Cursor;
use super::{Kho, Run, Sink};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::incoming::Incoming;
use crate::kho::vmalloc::Chain;
use crate::sys::pages::free_waiting;

/// Extents that are claimed under one hold of KHO's lock.
const AT_ONCE: usize = 256;

/// A file that was handed over, its header and extents' records claimed.
pub(crate) struct Sparse {
    header: Header,
    at: (Pfn, Order),
    area: Option<Chain>,
}

impl Sparse {
    /// Claims the file whose header is at an address that the previous kernel said.
    ///
    /// # Errors
    ///
    /// Nothing is claimed then.
    #[inline(never)]
    pub(crate) fn claim(kho: &mut impl Kho, at: PhysAddr) -> Result<Self, Refusal> {
        let claimed = kho.incoming(|incoming| {
            incoming.hold();
            let claimed = claim_metadata(incoming, at, |page| {
                let (header, sum) = Header::load(page);
                header.judge()?;
                let area = (header.extents > 0).then_some(header.area);
                Ok(((header, sum), area))
            });
            if claimed.is_err() {
                incoming.release();
            }
            Ok(claimed)
        })?;
        let ((header, sum), at, area) = claimed?;
        let file = Self { header, at, area };
        if file.header.sum(file.extents()) != sum {
            file.put_back(kho);
            return Err(Refusal::lie("its checksum is wrong"));
        }
        Ok(file)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Undoes [`Self::claim`].
    pub(crate) fn put_back(self, kho: &mut impl Kho) {
        put_back_metadata(kho, self.at, self.area);
    }

    fn extents(&self) -> Cursor<impl Iterator<Item = Pfn> + Clone + use<>, Run> {
        Cursor::new(pages_of(&self.area), self.header.extents)
    }

    /// Claims the folios of all extents.
    ///
    /// # Errors
    ///
    /// None of them is claimed then.
    #[inline(never)]
    fn claim_folios(&self, kho: &mut impl Kho) -> Result<(), Refusal> {
        let mut place = Place {
            next: 0,
            pages: self.header.pages(),
            held: 0,
        };
        let (mut left, mut done) = (self.extents(), 0);
        loop {
            let (claimed, more) = kho.incoming(|incoming| {
                for _ in 0..AT_ONCE {
                    let Some(extent) = left.next() else {
                        return Ok((Ok(()), false));
                    };
                    if let Err(refusal) = place.judge(&extent) {
                        return Ok((Err(refusal), false));
                    }
                    let left = claim_extent(incoming, extent);
                    if left.count > 0 {
                        let claimed = extent.count - left.count;
                        incoming.unclaim_run(extent.pfn, extent.order, claimed)?;
                        const LOST: &str = "a folio was not preserved, or is taken";
                        return Ok((Err(Refusal::lie(LOST)), false));
                    }
                    done += 1;
                }
                Ok((Ok(()), true))
            })?;
            let claimed = match claimed {
                Ok(()) if !more && place.held != self.header.held => {
                    Err(Refusal::lie("its extents do not add up"))
                }
                claimed => claimed,
            };
            if claimed.is_err() {
                unclaim(kho, self.extents().take(done));
            }
            claimed?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Puts all folios into a file, joined to folios of up to `merge`, if it says so, and cut to
    /// ones of `most` where they are larger: this kernel may have none so large.
    ///
    /// # Errors
    ///
    /// All waits again then, the header too.
    #[inline(never)]
    pub(crate) fn retrieve(
        self,
        kho: &mut impl Kho,
        sink: &mut impl Sink,
        merge: Option<Order>,
        most: Order,
    ) -> Result<(), Refusal> {
        if let Err(refusal) = self.claim_folios(kho) {
            self.put_back(kho);
            return Err(refusal);
        }
        let mut done = 0;
        sink.expect(self.header.held);
        let filled = self.fill(sink, merge, most, &mut done);
        let filled = filled.and_then(|()| Ok(sink.publish(self.header.held)?));
        if let Err(refusal) = filled {
            // The rest stays out of use once there is no way back.
            if !sink.is_shared() {
                self.take_back(sink, merge, most, done);
                unclaim(kho, self.extents());
            }
            self.put_back(kho);
            return Err(refusal);
        }
        free_metadata(kho, self.at, self.area);
        Ok(())
    }

    /// Fills the file; `done` runs are in it, however it ends.
    #[inline(never)]
    fn fill(
        &self,
        sink: &mut impl Sink,
        merge: Option<Order>,
        most: Order,
        done: &mut usize,
    ) -> Result<(), Refusal> {
        let mut pieces = self.pieces(merge, most, sink.zones());
        fill_with(sink, &mut pieces, done)
    }

    /// The runs that the extents become in a file.
    #[inline(never)]
    fn pieces(
        &self,
        merge: Option<Order>,
        most: Order,
        zone: fn(u64) -> u32,
    ) -> impl Iterator<Item = Run> + use<> {
        let whole = Pieces::new(self.extents(), merge, zone);
        whole.flat_map(move |run| steps(run.cut(most)))
    }

    /// Takes the first `done` runs out of the file.
    #[inline(never)]
    fn take_back(&self, sink: &mut impl Sink, merge: Option<Order>, most: Order, done: usize) {
        let mut pieces = self.pieces(merge, most, sink.zones());
        take_out(sink, &mut pieces.by_ref().take(done));
    }

    /// Gives all memory of the file to the page allocator.
    ///
    /// # Errors
    ///
    /// When something is wrong with it: all of it stays reserved then.
    #[inline(never)]
    pub(crate) fn discard(self, kho: &mut impl Kho) -> Result<(), Refusal> {
        if let Err(refusal) = self.claim_folios(kho) {
            self.put_back(kho);
            return Err(refusal);
        }
        for extent in self.extents() {
            free_waiting(PageRange::new(extent.pfn, extent.pages()));
        }
        free_metadata(kho, self.at, self.area);
        Ok(())
    }
}

/// Claims as much of an extent as waits; returns what is left of it. It takes more than one step
/// where it lies in more than one leaf of the tree.
fn claim_extent(incoming: &mut Incoming, extent: Run) -> Run {
    let mut left = extent;
    while left.count > 0 {
        match incoming.claim_prefix(left.pfn, left.order, left.count) {
            0 => break,
            claimed => left = left.skip(claimed),
        }
    }
    left
}

/// How far into the file extents have come.
struct Place {
    next: u64,
    pages: u64,
    held: u64,
}

impl Place {
    /// Takes an extent in that has a place of its own.
    fn judge(&mut self, extent: &Run) -> Result<(), Refusal> {
        const NO_PLACE: Refusal = Refusal::lie("an extent has no place in the file");
        let size = extent.order.pages();
        let aligned = extent.index % size == 0 && extent.pfn.raw() % size == 0;
        let pages = extent.count.checked_mul(size).ok_or(NO_PLACE)?;
        let end = extent.index.checked_add(pages).ok_or(NO_PLACE)?;
        // The last folio may reach beyond the end of the file.
        let inside = end < self.pages.saturating_add(size);
        let known = extent.order <= Order::LARGEST && pages < Pfn::LIMIT;
        if !aligned || extent.count == 0 || extent.index < self.next || !inside || !known {
            return Err(NO_PLACE);
        }
        self.next = end;
        self.held = self.held.saturating_add(pages);
        Ok(())
    }
}
