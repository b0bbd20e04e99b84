// SPDX-License-Identifier: GPL-2.0

//! What a kernel that was handed the sample can still get of it, through the ways the API has.

use super::kernel::{Handed, Kernel};
use super::sample::{is_marked, previous, Record, Sample, NAME, RECORD, RECORD_WORDS};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::block::{check_chain, next, records_per_block};
use crate::kho::boot::Refusal;
use crate::kho::metadata::{self, Metadata, LEN};
use crate::kho::vmalloc;
use crate::sys::early::Mapped;
use crate::sys::fdt::Blob;
use crate::sys::machine::{with, Owner};
use crate::sys::{pages, Frame};

/// What came of a handover.
#[derive(Debug)]
pub(crate) enum Found {
    /// It was refused as a whole.
    Refused(Refusal),
    /// It was taken, and these parts of it are lost or not as they were.
    Taken { lost: Vec<&'static str> },
}

/// Memory that was given out, to be freed at the end.
struct Held(Vec<PageRange>);

impl Held {
    /// Restores a folio at any address, as kho_restore_folio() does.
    fn folio(&mut self, kernel: &mut Kernel, at: PhysAddr) -> Option<PageRange> {
        if !at.is_page_aligned() {
            return None;
        }
        let order = kernel.restore_folio(at.pfn())?;
        let range = PageRange::new(at.pfn(), order.pages());
        self.0.push(range);
        Some(range)
    }
}

/// Whether some block that waits holds a frame; what the kernel reads without claiming must be.
fn waits(at: PhysAddr) -> bool {
    at.pfn().raw() < with(|m| m.frames()) && with(|m| m.owner(at.pfn().raw())) == Owner::Waiting
}

/// Restores everything, the driver's record first, and frees it again.
pub(crate) fn survey(kernel: &mut Kernel, sample: &Sample, handed: Handed) -> Found {
    let mapped = Mapped::new(handed.fdt, 4096).expect("it was judged");
    let fdt = Blob::new(mapped.bytes());
    assert!(fdt.check().is_ok(), "it was judged");
    let mut held = Held(Vec::new());
    let mut lost = Vec::new();
    let mut part = |name, whole: bool| {
        if !whole {
            lost.push(name);
        }
    };
    let about = read_metadata(kernel, &fdt);
    part(
        "metadata",
        about.is_some_and(|m| m.encode() == previous().encode()),
    );
    let read = read_record(kernel, &fdt, &mut held);
    part("record", read.is_some());
    // Whatever it says is asked for; without one, what it should have said.
    let record = read.unwrap_or(sample.record);
    let names = ["folio 0", "folio 1", "folio 2", "folio 3"];
    for (which, name) in names.into_iter().enumerate() {
        let want = PageRange::new(
            sample.record.folio(which).pfn(),
            sample.folios[which].pages(),
        );
        let got = held.folio(kernel, record.folio(which));
        part(name, got == Some(want) && is_marked(want));
    }
    part(
        "chain",
        chain(kernel, record, &mut held) && record.chain() == sample.record.chain(),
    );
    part(
        "area",
        area(kernel, record, &mut held).is_some_and(|got| got == sample.blocks),
    );
    part(
        "pages",
        page_run(kernel, record, &mut held).is_some_and(is_marked),
    );
    // Nothing is given out twice.
    for range in &held.0 {
        assert!(kernel.restore_folio(range.start).is_none());
    }
    for range in held.0 {
        pages::free_folio(range);
    }
    Found::Taken { lost }
}

fn read_metadata(kernel: &Kernel, fdt: &Blob<'_>) -> Option<Metadata> {
    let blob = kernel.subtree(fdt, metadata::NAME).ok()?;
    assert!(waits(blob.data), "a subtree that is found was preserved");
    let frame = Frame::at(blob.data.pfn().phys())?;
    let bytes: Vec<u8> = (0..512).flat_map(|i| frame.word(i).to_ne_bytes()).collect();
    let rest = &bytes[(blob.data.raw() % 4096) as usize..];
    let len = rest.len().min(LEN).min(blob.size as usize);
    Metadata::decode(&rest[..len]).ok()
}

fn read_record(kernel: &mut Kernel, fdt: &Blob<'_>, held: &mut Held) -> Option<Record> {
    let blob = kernel.subtree(fdt, NAME).ok()?;
    if blob.size != RECORD as u64 * 8 {
        return None;
    }
    let page = held.folio(kernel, blob.data)?;
    let frame = Frame::at(page.start.phys())?;
    let mut record = Record([0; RECORD]);
    for (i, word) in record.0.iter_mut().enumerate() {
        *word = frame.word(i);
    }
    Some(record)
}

/// Checks the chain, then takes its blocks one by one.
fn chain(kernel: &mut Kernel, record: Record, held: &mut Held) -> bool {
    let Some(incoming) = kernel.incoming.as_mut() else {
        return false;
    };
    let per_block = records_per_block(RECORD_WORDS * 8);
    let mut counts = Vec::new();
    let checked = check_chain(incoming, record.chain(), per_block, |block| {
        counts.push(crate::kho::block::count(block));
        Ok(())
    });
    if checked.is_err() {
        return false;
    }
    let mut at = record.chain();
    while at.raw() != 0 {
        let taken = held.folio(kernel, at);
        let range = taken.expect("a checked chain waits, each block once");
        at = next(Frame::at(range.start.phys()).expect("given out"));
    }
    counts == [1, 2, 3]
}

fn area(kernel: &mut Kernel, record: Record, held: &mut Held) -> Option<Vec<Pfn>> {
    let descriptor = record.area();
    let blocks = kernel.restore_vmalloc(&descriptor).ok()?;
    let order = Order::new(descriptor.order.into())?;
    let ranges = blocks.iter().map(|&pfn| PageRange::new(pfn, order.pages()));
    held.0.extend(ranges.clone());
    let whole =
        vmalloc::Descriptor { ..descriptor } == record.area() && ranges.clone().all(is_marked);
    whole.then_some(blocks)
}

fn page_run(kernel: &mut Kernel, record: Record, held: &mut Held) -> Option<PageRange> {
    let (at, count) = record.pages();
    let range = PageRange::new(at.pfn(), count);
    if !at.is_page_aligned() || !kernel.restore_pages(range) {
        return None;
    }
    held.0.push(range);
    Some(range)
}
