// SPDX-License-Identifier: GPL-2.0

//! What the next kernel would refuse is found before it is booted; and what is complete stays as it
//! is.

use std::mem::forget;

use super::carry::start;
use super::kernel::{frame_bytes, owned, small_machine, Kernel};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::array::Array;
use crate::kho::audit::Wrong;
use crate::kho::boot::Refusal;
use crate::kho::key::encode;
use crate::kho::state as handover;
use crate::kho::tree::{LeafCache, Tree};
use crate::sys::error::{EBUSY, EOPNOTSUPP};
use crate::sys::machine::{with, Owner};
use crate::sys::pages::{self, BuddyNodes};
use crate::sys::Frame;

fn order(raw: u32) -> Order {
    Order::new(raw).expect("small")
}

/// What is found of a record whose memory is as it is handed over.
fn found(kernel: &Kernel) -> Result<(), Wrong> {
    kernel.out.audit(|_| Ok(()))
}

/// Puts a key into a kernel's tree that it would refuse itself.
fn force(kernel: &Kernel, pfn: Pfn, order: Order) {
    let root = Frame::at(Pfn::new(kernel.nodes()[0]).phys()).expect("own root");
    LeafCache::new()
        .insert(Tree::at(root), encode(pfn, order), &mut BuddyNodes)
        .expect("memory");
}

#[test]
fn what_is_preserved_twice_is_found_before_the_jump() {
    let mut kernel = Kernel::cold(small_machine());
    let folio = pages::alloc_folio(order(2)).expect("memory");
    kernel.out.preserve_block(folio, order(2)).expect("memory");
    assert_eq!(found(&kernel), Ok(()));
    // One driver has the folio, another preserves a page of it.
    let page = folio.plus(3);
    kernel
        .out
        .preserve_pages(PageRange::new(page, 1))
        .expect("memory");
    assert_eq!(found(&kernel), Err(Wrong::Twice(page, 0b101)));
    let text = found(&kernel).unwrap_err().to_string();
    assert!(
        text.ends_with("is preserved twice: in blocks of order 0 and 2"),
        "{text}"
    );
    // It is what the next kernel refuses.
    assert!(kernel.out.unpreserve_pages(PageRange::new(page, 1)));
    assert_eq!(found(&kernel), Ok(()));
    kernel
        .out
        .preserve_pages(PageRange::new(page, 1))
        .expect("memory");
    let left: Vec<u64> = (folio.raw()..folio.raw() + 4).collect();
    let (_, why) = Kernel::warm(kernel.kexec(&left));
    assert!(
        matches!(why, Some(Refusal::Twice(at)) if at == page.phys()),
        "{why:?}"
    );
}

#[test]
fn looking_costs_by_the_run() {
    let cost = |pages: u64| {
        let mut kernel = Kernel::cold(small_machine());
        let first = pages::alloc_folio(order(11)).expect("memory");
        kernel
            .out
            .preserve_run(first, Order::ZERO, pages)
            .expect("memory");
        let before = with(|m| m.work);
        assert_eq!(found(&kernel), Ok(()));
        with(|m| m.work) - before
    };
    let (few, many) = (cost(64), cost(2048));
    // A word of the tree is 64 pages.
    assert!(
        many < few + 3 * 2048 / 64,
        "{few} for 64 pages, {many} for 2048"
    );
}

#[test]
fn memory_that_was_added_later_is_not_preserved() {
    let mut kernel = Kernel::cold_with(small_machine(), 512);
    let end = with(|m| m.frames());
    let (known, added) = (Pfn::new(end - 513), Pfn::new(end - 512));
    let took = PageRange::between(Pfn::new(end - 514), Pfn::new(end - 510));
    with(|m| m.change(took, &[Owner::Nobody], Owner::Kernel, "allocate"));
    let before = owned();
    let nodes = kernel.nodes();
    assert_eq!(
        kernel.out.preserve_block(added, Order::ZERO),
        Err(EOPNOTSUPP)
    );
    assert_eq!(kernel.out.preserve_pages(took), Err(EOPNOTSUPP));
    assert_eq!(
        kernel.out.preserve_run(known, Order::ZERO, 2),
        Err(EOPNOTSUPP)
    );
    let log = with(|m| m.take_log()).join("\n");
    assert!(
        log.contains(&format!("{:#x}: it was added", added.phys().raw())),
        "{log}"
    );
    assert_eq!((owned(), kernel.nodes()), (before, nodes));
    kernel
        .out
        .preserve_block(known, Order::ZERO)
        .expect("memory");
    assert_eq!(found(&kernel), Ok(()));
    // Whoever gets past that is found before the jump.
    force(&kernel, added, Order::ZERO);
    assert_eq!(found(&kernel), Err(Wrong::NotThere(added)));
    let (_, why) = Kernel::warm(kernel.kexec(&[known.raw(), added.raw()]));
    assert!(
        matches!(why, Some(Refusal::NotRam(at)) if at == added.phys()),
        "{why:?}"
    );
}

#[test]
fn a_record_in_memory_that_was_added_later_is_found() {
    let kernel = Kernel::cold(small_machine());
    assert_eq!(found(&kernel), Ok(()));
    // As if all of it had been added.
    let node = kernel.nodes()[0];
    let frames = with(|m| m.frames());
    let only = PageRange::between(Pfn::new(node + 1), Pfn::new(frames));
    let without = kernel.out.audit(|ram| {
        ram.clear();
        ram.add(only)
    });
    assert_eq!(without, Err(Wrong::RecordNotThere(Pfn::new(node))));
}

#[test]
fn once_it_is_sealed_the_root_fdt_stays_as_it_is() {
    let mut kernel = Kernel::cold(small_machine());
    let pages = [0, 1].map(|_| pages::alloc_folio(Order::ZERO).expect("memory"));
    for page in pages {
        kernel
            .out
            .preserve_block(page, Order::ZERO)
            .expect("memory");
    }
    kernel
        .out
        .add_subtree(c"one", pages[0].phys(), 64)
        .expect("room");
    kernel.out.seal().expect("room");
    let fdt = kernel.out.fdt().expect("made").page().frame();
    let before = frame_bytes(fdt);
    assert_eq!(
        kernel.out.add_subtree(c"two", pages[1].phys(), 64),
        Err(EBUSY)
    );
    assert_eq!(kernel.out.remove_subtree(pages[0].phys()), Err(EBUSY));
    assert_eq!(kernel.out.remove_subtree(PhysAddr::new(0)), Err(EBUSY));
    assert_eq!(frame_bytes(fdt), before);
}

#[test]
fn what_goes_once_it_is_sealed_stays_in_memory() {
    let kernel = start();
    let mut array = Array::create(b"going").expect("memory");
    array.set(5, 55).expect("memory");
    let before = owned();
    handover::outgoing(|out| out.seal()).expect("room");
    drop(array);
    assert_eq!(
        owned(),
        before,
        "a page that the next kernel will look for is free"
    );
    forget(kernel);
}
