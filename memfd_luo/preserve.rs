// SPDX-License-Identifier: GPL-2.0

//! Before the kexec: a memfd's folios are pinned, recorded and handed to KHO, a batch at a time.
//!
//! Nothing of the file is changed that would have to be changed back, apart from the references.
//! Each folio is made uptodate and dirty when it is pinned, and its record says so: existing
//! mappings can still write to a clean folio before the kexec, and the next kernel would drop that
//! data.

use super::format::{Header, Record};
use super::run::runs;
use super::table::{free_pages, records, Table};
use super::{Folio, Kho, Source, BATCH};
use crate::kho::addr::{Order, PhysAddr};
use crate::kho::outgoing::Outgoing;
use crate::kho::tree::NodeStore;
use crate::kho::vmalloc::{self, Descriptor};
use crate::sys::error::{Result, EHWPOISON, EINVAL, ENOMEM};
use crate::sys::pages::BuddyNodes;
use crate::sys::Frame;

/// The properties of a file that are recorded beside its contents.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) pos: u64,
    pub(crate) size: u64,
    pub(crate) seals: u32,
}

/// Preserves a file whose size cannot change. Returns the page of its header, which is preserved.
///
/// # Errors
///
/// What was done is undone then.
pub(crate) fn preserve(
    kho: &mut impl Kho,
    source: &mut impl Source,
    about: About,
) -> Result<PhysAddr> {
    let mut header = Header {
        pos: about.pos,
        size: about.size,
        seals: about.seals,
        flags: 0,
        folios: 0,
        records: Descriptor {
            first: PhysAddr::new(0),
            total_pages: 0,
            flags: 0,
            order: 0,
        },
    };
    let page = BuddyNodes.alloc().ok_or(ENOMEM)?;
    let done = preserve_folios(kho, source, &mut header).and_then(|()| {
        header.store(page);
        let block = |out: &mut Outgoing| out.preserve_block(page.phys().pfn(), Order::ZERO);
        kho.outgoing(block)
            .inspect_err(|_| unpreserve_folios(kho, source, &header))
    });
    match done {
        Ok(()) => Ok(page.phys()),
        Err(err) => {
            BuddyNodes.free(page);
            Err(err)
        }
    }
}

/// Brings up to date what may have changed since: the position, and seals that were added.
pub(crate) fn freeze(at: PhysAddr, pos: u64, seals: u32) -> Result {
    let page = Frame::at(at).ok_or(EINVAL)?;
    let mut header = Header::load(page);
    (header.pos, header.seals) = (pos, seals);
    header.store(page);
    Ok(())
}

/// Whether memory that is preserved was found to be bad since.
///
/// # Errors
///
/// [`EHWPOISON`] if it was.
#[inline(never)]
pub(crate) fn judge(source: &mut impl Source, at: PhysAddr) -> Result {
    let header = Header::load(Frame::at(at).ok_or(EINVAL)?);
    if header.size == 0 {
        return Ok(());
    }
    let mut records = records_of(&header);
    let mut batch = [Folio::NONE; BATCH];
    loop {
        let folios = next_folios(source, &mut records, &mut batch);
        if folios.is_empty() {
            return Ok(());
        }
        if runs(folios).any(|run| source.any_bad(&run)) {
            return Err(EHWPOISON);
        }
    }
}

/// Undoes [`preserve`].
pub(crate) fn unpreserve(kho: &mut impl Kho, source: &mut impl Source, at: PhysAddr) {
    let Some(page) = Frame::at(at) else {
        return;
    };
    unpreserve_folios(kho, source, &Header::load(page));
    // Nothing to be done about it when there is no record at all.
    let _ = kho.outgoing(|out| Ok(out.unpreserve_block(at.pfn(), Order::ZERO)));
    BuddyNodes.free(page);
}

fn preserve_folios(kho: &mut impl Kho, source: &mut impl Source, header: &mut Header) -> Result {
    if header.size == 0 {
        return Ok(());
    }
    let mut table = Table::new()?;
    let kept = keep_all(kho, source, &mut table, header.pages())
        .and_then(|()| kho.outgoing(|out| table.preserve(out)));
    match kept {
        Ok(descriptor) => {
            (header.folios, header.records) = (table.count(), descriptor);
            Ok(())
        }
        Err(err) => {
            give_up(kho, source, table.records());
            table.free();
            Err(err)
        }
    }
}

/// Preserves the folios of `pages` pages. On failure the table lists what was preserved so far.
#[inline(never)]
fn keep_all(
    kho: &mut impl Kho,
    source: &mut impl Source,
    table: &mut Table<Record>,
    pages: u64,
) -> Result {
    let mut batch = [Folio::NONE; BATCH];
    let mut next = 0;
    while next < pages {
        let count = source.pin(next, pages, &mut batch)?;
        let folios = batch.get(..count).ok_or(EINVAL)?;
        let before = table.count();
        if let Err(err) = keep(kho, table, folios) {
            table.truncate(before);
            source.unpin(folios);
            return Err(err);
        }
        let last = folios.last().ok_or(EINVAL)?;
        next = last.index.saturating_add(last.order.pages());
    }
    Ok(())
}

/// Records and preserves folios that are pinned; on failure, none of them is preserved.
fn keep(kho: &mut impl Kho, table: &mut Table<Record>, folios: &[Folio]) -> Result {
    for folio in folios {
        table.push(Record {
            pfn: folio.pfn,
            flags: Record::DIRTY | Record::UPTODATE,
            index: folio.index,
        })?;
    }
    kho.outgoing(|out| {
        let mut done = 0;
        let kept = runs(folios).try_for_each(|run| {
            out.preserve_run(run.pfn, run.order, run.count)?;
            done += 1;
            Ok(())
        });
        if kept.is_err() {
            for run in runs(folios).take(done) {
                out.unpreserve_run(run.pfn, run.order, run.count);
            }
        }
        kept
    })
}

/// The records of a header of our own.
pub(super) fn records_of(header: &Header) -> impl Iterator<Item = Record> {
    let pages = vmalloc::listed(&header.records).map(PhysAddr::pfn);
    records(pages, header.folios)
}

fn unpreserve_folios(kho: &mut impl Kho, source: &mut impl Source, header: &Header) {
    if header.size == 0 {
        return;
    }
    let pages = || vmalloc::listed(&header.records);
    give_up(kho, source, records_of(header));
    let _ = kho.outgoing(|out| {
        vmalloc::unpreserve_list(out, &header.records);
        Ok(())
    });
    free_pages(pages());
    vmalloc::free_list(&header.records);
}

/// Unpreserves and unpins the folios that records list.
#[inline(never)]
fn give_up(
    kho: &mut impl Kho,
    source: &mut impl Source,
    mut records: impl Iterator<Item = Record>,
) {
    let mut batch = [Folio::NONE; BATCH];
    loop {
        let folios = next_folios(source, &mut records, &mut batch);
        if folios.is_empty() {
            return;
        }
        let _ = kho.outgoing(|out| {
            runs(folios).for_each(|run| out.unpreserve_run(run.pfn, run.order, run.count));
            Ok(())
        });
        source.unpin(folios);
    }
}

/// The folios of the next records, with their orders; none at the end.
pub(super) fn next_folios<'a>(
    source: &mut impl Source,
    records: &mut impl Iterator<Item = Record>,
    batch: &'a mut [Folio; BATCH],
) -> &'a mut [Folio] {
    let mut count = 0;
    for (folio, record) in batch.iter_mut().zip(records) {
        *folio = Folio {
            pfn: record.pfn,
            index: record.index,
            order: Order::ZERO,
        };
        count += 1;
    }
    let folios = batch.get_mut(..count).unwrap_or_default();
    source.orders(folios);
    folios
}
