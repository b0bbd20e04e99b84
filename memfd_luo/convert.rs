// SPDX-License-Identifier: GPL-2.0

//! A preserved file from one version to the other, before the kexec: folios stay pinned and
//! preserved as they are; the records about them change.

use super::extents::Header as Sparse;
use super::format::{Header as Dense, Record};
use super::preserve::{next_folios, records_of};
use super::run::runs;
use super::sparse::{extents, free_area, look_again, About, NOWHERE};
use super::table::{free_pages, Table};
use super::{Folio, Kho, Run, Source, BATCH};
use crate::kho::addr::PhysAddr;
use crate::kho::vmalloc;
use crate::sys::error::{Result, EINVAL};
use crate::sys::Frame;

/// From extents to a record a folio. Holes are filled: the format has none.
///
/// # Errors
///
/// The file is preserved as before then, but holes may have been filled.
#[inline(never)]
pub(crate) fn to_records(kho: &mut impl Kho, source: &mut impl Source, at: PhysAddr) -> Result {
    let page = Frame::at(at).ok_or(EINVAL)?;
    look_again(kho, source, page, true)?;
    let old = Sparse::load(page).0;
    let mut new = Dense {
        pos: old.pos,
        size: old.size,
        seals: old.seals,
        flags: 0,
        folios: 0,
        records: NOWHERE,
    };
    if old.size > 0 {
        let mut table = Table::new()?;
        let folios = extents(&old).flat_map(folios_of);
        let mut written = folios.map(|folio| Record {
            pfn: folio.pfn,
            flags: Record::DIRTY | Record::UPTODATE,
            index: folio.index,
        });
        let written = written.try_for_each(|record| table.push(record));
        match written.and_then(|()| kho.outgoing(|out| table.preserve(out))) {
            Ok(area) => (new.folios, new.records) = (table.count(), area),
            Err(err) => {
                table.free();
                return Err(err);
            }
        }
    }
    new.store(page);
    free_area(kho, &old);
    Ok(())
}

/// From a record a folio to extents.
///
/// # Errors
///
/// The file is preserved as before then.
#[inline(never)]
pub(crate) fn to_extents(
    kho: &mut impl Kho,
    source: &mut impl Source,
    at: PhysAddr,
    about: &About,
) -> Result {
    let page = Frame::at(at).ok_or(EINVAL)?;
    let old = Dense::load(page);
    let mut new = about.header();
    if old.folios > 0 {
        let mut table = Table::new()?;
        let written = join(source, records_of(&old), |run| {
            new.held += run.pages();
            table.push(run)
        });
        match written.and_then(|()| kho.outgoing(|out| table.preserve(out))) {
            Ok(area) => (new.extents, new.area) = (table.count(), area),
            Err(err) => {
                table.free();
                return Err(err);
            }
        }
    }
    new.store(page, extents(&new));
    if old.size > 0 {
        let _ = kho.outgoing(|out| {
            vmalloc::unpreserve_list(out, &old.records);
            Ok(())
        });
        free_pages(vmalloc::listed(&old.records));
        vmalloc::free_list(&old.records);
    }
    Ok(())
}

/// The folios of an extent.
fn folios_of(run: Run) -> impl Iterator<Item = Folio> + Clone {
    (0..run.count).map(move |number| {
        let apart = number << run.order.raw();
        Folio {
            pfn: run.pfn.plus(apart),
            index: run.index + apart,
            order: run.order,
        }
    })
}

/// The extents that the folios of records form, one after the other.
#[inline(never)]
fn join(
    source: &mut impl Source,
    mut records: impl Iterator<Item = Record>,
    mut each: impl FnMut(Run) -> Result,
) -> Result {
    let mut batch = [Folio::NONE; BATCH];
    let mut ahead = Run::NONE;
    loop {
        let folios = next_folios(source, &mut records, &mut batch);
        if folios.is_empty() {
            return match ahead.count {
                0 => Ok(()),
                _ => each(ahead),
            };
        }
        for run in runs(folios) {
            if ahead.count > 0 && ahead.order == run.order && ahead.goes_on(run.pfn, run.index) {
                ahead.count += run.count;
                continue;
            }
            if ahead.count > 0 {
                each(ahead)?;
            }
            ahead = run;
        }
    }
}
