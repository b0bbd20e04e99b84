// SPDX-License-Identifier: GPL-2.0

//! Before the kexec, as "memfd-v3": only what is in a file is preserved, and its holes stay holes.
//!
//! Pages may come into holes until the file is frozen; then it is looked at again, and from then on
//! none can. What a file is beside its contents is recorded when it is frozen as well.

use super::extents::{Header, Name};
use super::gather::{gather, give_up, Extents};
use super::table::{free_pages, records, Cursor};
use super::{Kho, Run, Source};
use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::outgoing::Outgoing;
use crate::kho::tree::NodeStore;
use crate::kho::vmalloc::{self, Descriptor};
use crate::sys::error::{Result, EHWPOISON, EINVAL, ENOMEM};
use crate::sys::pages::BuddyNodes;
use crate::sys::Frame;

/// The properties of a file that are recorded beside its contents.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) size: u64,
    pub(crate) pos: u64,
    pub(crate) seals: u32,
    pub(crate) mode: u32,
    pub(crate) name: Name,
}

pub(super) const NOWHERE: Descriptor = Descriptor {
    first: PhysAddr::new(0),
    total_pages: 0,
    flags: 0,
    order: 0,
};

impl About {
    pub(super) fn header(&self) -> Header {
        Header {
            size: self.size,
            pos: self.pos,
            seals: self.seals,
            mode: self.mode,
            flags: 0,
            page_order: 0,
            extents: 0,
            held: 0,
            area: NOWHERE,
            name: self.name,
        }
    }
}

/// Preserves a file whose size cannot change. Returns the page of its header, which is preserved.
///
/// # Errors
///
/// What was done is undone then.
#[inline(never)]
pub(crate) fn preserve(
    kho: &mut impl Kho,
    source: &mut impl Source,
    about: &About,
) -> Result<PhysAddr> {
    let page = BuddyNodes.alloc().ok_or(ENOMEM)?;
    let block = |out: &mut Outgoing| out.preserve_block(page.phys().pfn(), Order::ZERO);
    let header = about.header();
    header.store(page, core::iter::empty());
    let done = kho.outgoing(block).and_then(|()| {
        look_again(kho, source, page, false).inspect_err(|_| forget_block(kho, page.phys()))
    });
    match done {
        Ok(()) => Ok(page.phys()),
        Err(err) => {
            BuddyNodes.free(page);
            Err(err)
        }
    }
}

/// Looks for what has come into holes since, and brings up to date what may have changed.
///
/// # Errors
///
/// What can be said of pages; the file is preserved as before then.
#[inline(never)]
pub(crate) fn freeze(
    kho: &mut impl Kho,
    source: &mut impl Source,
    at: PhysAddr,
    about: &About,
) -> Result {
    let page = Frame::at(at).ok_or(EINVAL)?;
    if !holds(source, Header::load(page).0.held) {
        look_again(kho, source, page, false)?;
    }
    let mut header = Header::load(page).0;
    (header.pos, header.seals, header.mode) = (about.pos, about.seals, about.mode);
    header.store(page, extents(&header));
    Ok(())
}

/// Whether the pages that are in a file are so many, and no others were between the looks.
///
/// A page that goes to swap or comes from there meanwhile may be counted twice, or not at all. What
/// the file is charged for stays the same then.
fn holds(source: &mut impl Source, pages: u64) -> bool {
    source.charged() == pages && source.in_memory() + source.swapped() == pages
}

/// Whether memory that is preserved was found to be bad since.
///
/// # Errors
///
/// [`EHWPOISON`] if it was.
#[inline(never)]
pub(crate) fn judge(source: &mut impl Source, at: PhysAddr) -> Result {
    let header = Header::load(Frame::at(at).ok_or(EINVAL)?).0;
    let any = extents(&header).any(|run| source.any_bad(&run));
    if any {
        return Err(EHWPOISON);
    }
    Ok(())
}

/// Undoes [`preserve`].
#[inline(never)]
pub(crate) fn unpreserve(kho: &mut impl Kho, source: &mut impl Source, at: PhysAddr) {
    let Some(page) = Frame::at(at) else {
        return;
    };
    let header = Header::load(page).0;
    give_up(kho, source, extents(&header));
    free_area(kho, &header);
    forget_block(kho, at);
    BuddyNodes.free(page);
}

/// The extents of a header of our own.
pub(super) fn extents(header: &Header) -> Cursor<impl Iterator<Item = Pfn> + Clone + use<>, Run> {
    // Without an area its list is empty.
    records(
        vmalloc::listed(&header.area).map(PhysAddr::pfn),
        header.extents,
    )
}

/// Adds what is not preserved yet to the extents of a header, holes too if they are to be filled.
///
/// # Errors
///
/// All is as it was then, but holes that were filled.
#[inline(never)]
pub(super) fn look_again(
    kho: &mut impl Kho,
    source: &mut impl Source,
    page: Frame,
    fill: bool,
) -> Result {
    let header = Header::load(page).0;
    let found = gather(kho, source, extents(&header), header.pages(), fill)?;
    let Some(Extents { table, held }) = found else {
        return Ok(());
    };
    match kho.outgoing(|out| table.preserve(out)) {
        Ok(area) => {
            let new = Header {
                extents: table.count(),
                held,
                area,
                ..header
            };
            new.store(page, extents(&new));
            free_area(kho, &header);
            Ok(())
        }
        Err(err) => {
            // What is new is what the old ones do not have.
            let new = Gaps {
                all: table.records(),
                old: extents(&header),
                left: None,
            };
            give_up(kho, source, new);
            table.free();
            Err(err)
        }
    }
}

/// Parts of extents that are not in an older list of some of the same folios.
struct Gaps<A, B> {
    all: A,
    old: B,
    /// The rest of an extent that was looked at.
    left: Option<Run>,
}

impl<A, P> Iterator for Gaps<A, Cursor<P, Run>>
where
    A: Iterator<Item = Run>,
    P: Iterator<Item = Pfn>,
{
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            let mut run = match self.left.take() {
                Some(run) => run,
                None => self.all.next()?,
            };
            let end = run.index + run.pages();
            let Some(old) = self.old.next_if(|old| old.index < end) else {
                return Some(run);
            };
            // Old ones were taken over whole.
            let before = (old.index - run.index) >> run.order.raw();
            let passed = before + old.count;
            if passed < run.count {
                self.left = Some(run.skip(passed));
            }
            if before > 0 {
                run.count = before;
                return Some(run);
            }
        }
    }
}

/// Gives back the pages that a header's extents are in.
pub(super) fn free_area(kho: &mut impl Kho, header: &Header) {
    if header.extents == 0 {
        return;
    }
    let _ = kho.outgoing(|out| {
        vmalloc::unpreserve_list(out, &header.area);
        Ok(())
    });
    free_pages(vmalloc::listed(&header.area));
    vmalloc::free_list(&header.area);
}

fn forget_block(kho: &mut impl Kho, at: PhysAddr) {
    // Nothing to be done about it when there is no record at all.
    let _ = kho.outgoing(|out| Ok(out.unpreserve_block(at.pfn(), Order::ZERO)));
}
