// SPDX-License-Identifier: GPL-2.0

//! After the kexec: a memfd is built from what was handed over, or its memory is given back.
//!
//! Nothing that was handed over is believed. What is read has been claimed from the incoming tree
//! before, so it was preserved and nobody else has it; a folio's order is the tree's, not the
//! record's. Whatever goes wrong, all that was claimed waits again, and the file can be asked for
//! again or be given up.

use super::fill::{fill_with, steps, take_out};
use super::format::{Header, Record, Refusal};
use super::run::runs;
use super::table::{Cursor, Table};
use super::{Folio, Kho, Run, Sink, RUNS, STEP};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::incoming::Incoming;
use crate::kho::tree::NodeStore;
use crate::kho::vmalloc::{Chain, Descriptor};
use crate::sys::error::Result;
use crate::sys::pages::{free_waiting, ReservedNodes};
use crate::sys::Frame;

/// A file that was handed over, its header and records claimed.
pub(crate) struct Waiting {
    header: Header,
    /// The block that holds the header.
    at: (Pfn, Order),
    records: Option<Chain>,
}

impl Waiting {
    /// Pages of the largest folio in a file, beyond the one it was needed for.
    const BEYOND: u64 = 511;

    /// Claims the file whose header is at an address that the previous kernel said.
    ///
    /// # Errors
    ///
    /// Nothing is claimed then.
    pub(crate) fn claim(kho: &mut impl Kho, at: PhysAddr) -> Result<Self, Refusal> {
        kho.incoming(|incoming| {
            incoming.hold();
            let claimed = Self::claim_held(incoming, at);
            if claimed.is_err() {
                incoming.release();
            }
            Ok(claimed)
        })?
    }

    fn claim_held(incoming: &mut Incoming, at: PhysAddr) -> Result<Self, Refusal> {
        let (header, at, records) = claim_metadata(incoming, at, |page| {
            let header = Header::load(page);
            header.judge()?;
            Ok((header, (header.folios > 0).then_some(header.records)))
        })?;
        Ok(Self {
            header,
            at,
            records,
        })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Undoes [`Self::claim`].
    pub(crate) fn put_back(self, kho: &mut impl Kho) {
        put_back_metadata(kho, self.at, self.records);
    }

    /// Puts all folios into a file, those that are larger than `most` in parts of it: this kernel
    /// may have none so large.
    ///
    /// # Errors
    ///
    /// All waits again then, the header too.
    pub(crate) fn retrieve(
        self,
        kho: &mut impl Kho,
        sink: &mut impl Sink,
        most: Order,
    ) -> Result<(), Refusal> {
        // What was cut has not the order any more that it waits with.
        let mut cut = match Table::new() {
            Ok(cut) => Cut { runs: cut, most },
            Err(err) => {
                self.put_back(kho);
                return Err(err.into());
            }
        };
        // Without holes; the last folio may reach beyond the end.
        sink.expect(self.header.pages().saturating_add(Self::BEYOND));
        let mut walk = self.walk();
        let filled = self
            .fill(kho, sink, &mut walk, &mut cut)
            .and_then(|pages| Ok(sink.publish(pages)?));
        if filled.is_err() && !sink.is_shared() {
            self.take_back(kho, sink, walk.done, &cut);
        }
        cut.runs.free();
        match filled {
            Ok(()) => self.free(kho),
            Err(_) => self.put_back(kho),
        }
        filled
    }

    /// Fills the file step by step. Returns its pages. `walk.done` folios are in it, however it
    /// ends.
    #[inline(never)]
    fn fill(
        &self,
        kho: &mut impl Kho,
        sink: &mut impl Sink,
        walk: &mut Walk<impl Iterator<Item = Pfn> + Clone>,
        cut: &mut Cut,
    ) -> Result<u64, Refusal> {
        let mut batch = [Run::NONE; RUNS];
        let mut pages = 0;
        loop {
            let (count, claimed) = kho.incoming(|incoming| Ok(walk.step(incoming, &mut batch)))?;
            let runs = batch.get(..count).unwrap_or_default();
            let filled = claimed.and_then(|()| match runs {
                [] => Ok(()),
                runs => cut.fill(sink, runs),
            });
            if filled.is_err() && !sink.is_shared() {
                unclaim(kho, runs.iter().copied());
            }
            filled?;
            if runs.is_empty() {
                return Ok(pages);
            }
            walk.done += runs.iter().map(|run| run.count).sum::<u64>();
            pages += runs.iter().map(Run::pages).sum::<u64>();
        }
    }

    /// Takes the first `done` folios out of the file; they wait again.
    #[inline(never)]
    fn take_back(&self, kho: &mut impl Kho, sink: &mut impl Sink, done: u64, cut: &Cut) {
        let mut left = done;
        let mut cursor = self.cursor();
        let mut cuts = cut.runs.records();
        let mut batch = [Folio::NONE; RUNS];
        while left > 0 {
            let mut count = 0;
            let mut in_parts = None;
            for folio in batch.iter_mut() {
                let Some(record) = (left > 0).then(|| cursor.next()).flatten() else {
                    break;
                };
                in_parts = cuts.next_if(|run| run.index == record.index);
                if let Some(run) = in_parts {
                    // Its other records go with it.
                    let others = usize::try_from(run.count - 1).unwrap_or(0);
                    cursor.by_ref().take(others).for_each(drop);
                    left = left.saturating_sub(run.count);
                    break;
                }
                (folio.pfn, folio.index) = (record.pfn, record.index);
                count += 1;
                left -= 1;
            }
            let folios = batch.get_mut(..count).unwrap_or_default();
            if folios.is_empty() && in_parts.is_none() {
                return;
            }
            sink.take_back(folios);
            unclaim(kho, runs(folios));
            if let Some(run) = in_parts {
                take_out(sink, &mut steps(run.cut(cut.most)));
                unclaim(kho, core::iter::once(run));
            }
        }
    }

    /// Gives all memory of the file to the page allocator.
    ///
    /// # Errors
    ///
    /// When something is wrong with it: what is not given back stays reserved.
    pub(crate) fn discard(self, kho: &mut impl Kho) -> Result<(), Refusal> {
        // First a look at everything: what a liar lists may be somebody else's.
        let sound = self.look(kho).and_then(|()| self.free_folios(kho));
        match sound {
            Ok(()) => self.free(kho),
            Err(_) => self.put_back(kho),
        }
        sound
    }

    /// Looks at all folios, and claims none.
    #[inline(never)]
    fn look(&self, kho: &mut impl Kho) -> Result<(), Refusal> {
        let mut walk = self.walk();
        kho.incoming(|incoming| Ok(walk.look(incoming)))?
    }

    /// Claims and frees folio after folio, up to one that is refused.
    #[inline(never)]
    fn free_folios(&self, kho: &mut impl Kho) -> Result<(), Refusal> {
        let mut walk = self.walk();
        let mut batch = [Run::NONE; RUNS];
        loop {
            let (count, claimed) = kho.incoming(|incoming| Ok(walk.step(incoming, &mut batch)))?;
            for run in batch.iter().take(count) {
                free_waiting(PageRange::new(run.pfn, run.pages()));
            }
            claimed?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Frees header and records: the file is done with.
    fn free(self, kho: &mut impl Kho) {
        free_metadata(kho, self.at, self.records);
    }

    /// A walk over the folios.
    fn walk(&self) -> Walk<impl Iterator<Item = Pfn> + Clone + use<>> {
        Walk {
            cursor: self.cursor(),
            ahead: Run::NONE,
            next: 0,
            pages: self.header.pages(),
            done: 0,
        }
    }

    fn cursor(&self) -> Cursor<impl Iterator<Item = Pfn> + Clone + use<>, Record> {
        Cursor::new(pages_of(&self.records), self.header.folios)
    }
}

/// Runs that are in the file in parts, as its folios must not be larger than `most`.
struct Cut {
    runs: Table<Run>,
    most: Order,
}

impl Cut {
    /// Puts runs into the file.
    ///
    /// # Errors
    ///
    /// None of them is in it then.
    #[inline(never)]
    fn fill(&mut self, sink: &mut impl Sink, runs: &[Run]) -> Result<(), Refusal> {
        let most = self.most;
        let too_large = |run: &&Run| run.order > most;
        if !runs.iter().any(|run| run.order > most) {
            return Ok(sink.fill(runs)?);
        }
        let before = self.runs.count();
        let mut cut = runs.iter().filter(too_large);
        let noted = cut.try_for_each(|run| self.runs.push(*run));
        let parts = || runs.iter().flat_map(|run| steps(run.cut(most)));
        let mut done = 0;
        let filled = match noted {
            Ok(()) => fill_with(sink, &mut parts(), &mut done),
            Err(err) => Err(err.into()),
        };
        if filled.is_err() && !sink.is_shared() {
            take_out(sink, &mut parts().take(done));
            self.runs.truncate(before);
        }
        filled
    }
}

/// The pages of an area that was claimed.
pub(super) fn pages_of(area: &Option<Chain>) -> impl Iterator<Item = Pfn> + Clone + use<> {
    let pages = area.as_ref().map(|chain| {
        let in_block = 0..chain.order().pages();
        let blocks = chain.blocks();
        blocks.flat_map(move |block| in_block.clone().map(move |page| block.plus(page)))
    });
    pages.into_iter().flatten()
}

/// Frees a header's block and its area of records, once what they name is somebody's.
pub(super) fn free_metadata(kho: &mut impl Kho, at: (Pfn, Order), area: Option<Chain>) {
    let (pfn, order) = at;
    let _ = kho.incoming(|incoming| {
        if let Some(chain) = &area {
            chain.finish(incoming);
        }
        incoming.release();
        Ok(())
    });
    free_waiting(PageRange::new(pfn, order.pages()));
    if let Some(chain) = area {
        let pages = chain.order().pages();
        for block in chain.blocks() {
            free_waiting(PageRange::new(block, pages));
        }
        for chunk in chain.into_chunks().filter_map(|pfn| Frame::at(pfn.phys())) {
            ReservedNodes.free(chunk);
        }
    }
}

/// Undoes the claims on a header's block and its area of records.
pub(super) fn put_back_metadata(kho: &mut impl Kho, at: (Pfn, Order), area: Option<Chain>) {
    let (pfn, order) = at;
    // The nodes are there, since we hold: this cannot fail.
    let _ = kho.incoming(|incoming| {
        let done = area.map_or(Ok(()), |chain| chain.unclaim(incoming));
        let done = done.and(incoming.unclaim_run(pfn, order, 1));
        incoming.release();
        done
    });
}

/// A header, its block, and its area of records.
type Claimed<H> = (H, (Pfn, Order), Option<Chain>);

/// Claims the block of a header, and its area of records if `area` finds one in it.
pub(super) fn claim_metadata<H>(
    incoming: &mut Incoming,
    at: PhysAddr,
    read: impl FnOnce(Frame) -> Result<(H, Option<Descriptor>), Refusal>,
) -> Result<Claimed<H>, Refusal> {
    const LOST: Refusal = Refusal::lie("its header was not preserved, or is taken");
    let pfn = at.pfn();
    let page = Frame::at(at).ok_or(LOST)?;
    let order = incoming.block_at(pfn).ok_or(LOST)?;
    if incoming.claim_prefix(pfn, order, 1) != 1 {
        return Err(LOST);
    }
    let claimed = read(page).and_then(|(header, area)| {
        let chain = area.map(|area| Chain::claim(incoming, &area)).transpose();
        let chain = chain.map_err(|_| Refusal::lie("its records are not a preserved area"))?;
        Ok((header, (pfn, order), chain))
    });
    if claimed.is_err() {
        incoming.unclaim_run(pfn, order, 1)?;
    }
    claimed
}

/// Puts runs back that were claimed and are in no file.
pub(super) fn unclaim(kho: &mut impl Kho, runs: impl Iterator<Item = Run>) {
    let _ = kho.incoming(|incoming| {
        for run in runs {
            incoming.unclaim_run(run.pfn, run.order, run.count)?;
        }
        Ok(())
    });
}

/// A walk over the records of a file, which claims what they list.
struct Walk<P: Iterator<Item = Pfn> + Clone> {
    cursor: Cursor<P, Record>,
    /// Records read ahead: as far as their numbers tell, neighbours of one order.
    ahead: Run,
    /// The first page of the file that is not taken yet.
    next: u64,
    pages: u64,
    /// Folios that are in the file.
    done: u64,
}

impl<P: Iterator<Item = Pfn> + Clone> Walk<P> {
    /// Claims the next runs. Returns how many, none at the end; those were claimed even if the one
    /// after them is refused.
    #[inline(never)]
    fn step(
        &mut self,
        incoming: &mut Incoming,
        batch: &mut [Run; RUNS],
    ) -> (usize, Result<(), Refusal>) {
        let (mut count, mut folios) = (0, 0);
        for slot in batch.iter_mut() {
            if folios >= STEP {
                break;
            }
            match self.claim_next(incoming, STEP - folios) {
                Ok(Some(run)) => {
                    *slot = run;
                    folios += run.count;
                    count += 1;
                }
                Ok(None) => break,
                Err(refusal) => return (count, Err(refusal)),
            }
        }
        (count, Ok(()))
    }

    /// Looks at all that is left, and claims nothing.
    fn look(&mut self, incoming: &mut Incoming) -> Result<(), Refusal> {
        while let Some(run) = self.next_run(incoming, 1)? {
            self.next = run.index.saturating_add(run.pages());
            self.ahead.count = 0;
        }
        Ok(())
    }

    /// Claims the next run of at most `most` folios.
    fn claim_next(&mut self, incoming: &mut Incoming, most: u64) -> Result<Option<Run>, Refusal> {
        let Some(mut run) = self.next_run(incoming, most)? else {
            return Ok(None);
        };
        run.count = incoming.claim_prefix(run.pfn, run.order, run.count);
        if run.count == 0 {
            return Err(NOT_THERE);
        }
        self.next = run.index.saturating_add(run.pages());
        // What was read ahead is as far apart as its first folio said.
        let passed = run.count << self.ahead.order.raw();
        self.ahead.pfn = self.ahead.pfn.plus(passed);
        self.ahead.index = self.ahead.index.saturating_add(passed);
        self.ahead.count -= run.count;
        Ok(Some(run))
    }

    /// The next run of at most `most` folios, the first of which waits; it stays in `ahead`.
    fn next_run(&mut self, incoming: &mut Incoming, most: u64) -> Result<Option<Run>, Refusal> {
        let fresh = self.ahead.count == 0;
        if fresh {
            let Some(record) = self.cursor.next() else {
                return Ok(None);
            };
            if record.flags & !(Record::DIRTY | Record::UPTODATE) != 0 {
                return Err(Refusal::unknown("a folio has an unknown flag"));
            }
            self.ahead = Run {
                pfn: record.pfn,
                index: record.index,
                order: Order::ZERO,
                count: 1,
                filled: record.flags & Record::UPTODATE != 0,
            };
        }
        let Run { pfn, index, .. } = self.ahead;
        let order = incoming.block_at(pfn).ok_or(NOT_THERE)?;
        if index < self.next || index >= self.pages || index % order.pages() != 0 {
            return Err(Refusal::lie("a folio has no place in the file"));
        }
        if fresh {
            self.ahead.order = order;
            self.read_ahead(most);
        }
        // Its successors are known to be as far apart as this one is large, or are left for later.
        let alike = self.ahead.order == order;
        Ok(Some(Run {
            order,
            count: if alike { self.ahead.count.min(most) } else { 1 },
            ..self.ahead
        }))
    }

    /// Takes records in as long as they go on where the ones before end.
    fn read_ahead(&mut self, most: u64) {
        while self.ahead.count < most {
            let fits = |record: &Record| {
                let filled = record.flags & Record::UPTODATE != 0;
                let known = record.flags & !(Record::DIRTY | Record::UPTODATE) == 0;
                known
                    && filled == self.ahead.filled
                    && record.index < self.pages
                    && self.ahead.goes_on(record.pfn, record.index)
            };
            if self.cursor.next_if(fits).is_none() {
                return;
            }
            self.ahead.count += 1;
        }
    }
}

const NOT_THERE: Refusal = Refusal::lie("a folio was not preserved, or is taken");
