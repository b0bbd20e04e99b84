// SPDX-License-Identifier: GPL-2.0

//! The checksum over metadata: silent when nothing changed or none was written, loud otherwise,
//! and never the reason for a refusal.

use super::kernel::{small_machine, words_at, Handed, Kernel};
use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::boot::Refusal;
use crate::kho::checksum;
use crate::sys::fdt::Blob;
use crate::sys::machine::with;
use crate::sys::pages;
use zerocopy::IntoBytes;

/// A handover of one folio with a name, and the nodes of its tree.
fn handover() -> (Handed, Vec<PhysAddr>) {
    let mut kernel = Kernel::cold(small_machine());
    let pfn = pages::alloc_folio(Order::ZERO).expect("memory");
    kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    kernel
        .out
        .add_subtree(c"one", pfn.phys(), 64)
        .expect("room");
    let nodes = kernel.nodes().into_iter().map(|n| Pfn::new(n).phys());
    let nodes = nodes.collect();
    (kernel.kexec(&[pfn.raw()]), nodes)
}

/// Boots, and says whether the kernel complained of the checksum.
fn boot(handed: Handed) -> (bool, Option<Refusal>) {
    with(|m| m.hostile = true);
    with(|m| m.take_log());
    let (_, refused) = Kernel::warm(handed);
    let log = with(|m| m.take_log());
    let loud = log.iter().filter(|line| line.contains("checksum")).count();
    assert!(loud <= 1, "{log:?}");
    (loud == 1, refused)
}

fn flip(at: PhysAddr, bit: usize) {
    with(|m| m.poke(at, bit / 64, m.peek(at, bit / 64) ^ 1 << (bit % 64)));
}

/// The FDT's page, and where in it the checksum is.
fn fdt_of(handed: Handed) -> (Vec<u64>, Option<usize>) {
    let words = words_at(handed.fdt);
    let blob = Blob::new(words.as_bytes());
    blob.check().expect("a good FDT");
    let at = blob.find_u64(Blob::ROOT, checksum::NAME);
    (words.clone(), at.map(|(at, _)| at))
}

#[test]
fn nothing_is_said_of_what_is_whole() {
    let (handed, _) = handover();
    assert!(fdt_of(handed).1.is_some());
    let (loud, refused) = boot(handed);
    assert!(!loud && refused.is_none());
}

#[test]
fn nothing_is_said_without_a_checksum() {
    let (handed, nodes) = handover();
    // By another name it is none.
    let (words, _) = fdt_of(handed);
    let bytes = words.as_bytes();
    let name = checksum::NAME.to_bytes();
    let at = bytes.windows(name.len()).position(|have| have == name);
    flip(handed.fdt, at.expect("its name is there") * 8);
    flip(*nodes.last().expect("a leaf"), 4000);
    let (loud, refused) = boot(handed);
    // A page more is preserved, and that is all that can be seen.
    assert!(!loud && refused.is_none(), "{refused:?}");
}

#[test]
fn a_key_more_is_noticed_and_accepted() {
    let (handed, nodes) = handover();
    flip(*nodes.last().expect("a leaf"), 4000);
    let (loud, refused) = boot(handed);
    assert!(loud && refused.is_none(), "{refused:?}");
}

#[test]
fn a_refusal_comes_with_it() {
    let (handed, nodes) = handover();
    // A page that is no RAM.
    flip(*nodes.last().expect("a leaf"), 1);
    let (loud, refused) = boot(handed);
    assert!(loud && matches!(refused, Some(Refusal::NotRam(_))));
}

#[test]
fn each_bit_of_the_fdt_counts() {
    let (handed, _) = handover();
    let (words, value) = fdt_of(handed);
    let len = Blob::new(words.as_bytes()).len();
    let value = value.expect("sealed");
    let mut quiet = 0;
    for bit in 0..len * 8 {
        let (handed, _) = handover();
        flip(handed.fdt, bit);
        let (loud, refused) = boot(handed);
        let inside = (value..value + 8).contains(&(bit / 8));
        assert!(loud || !inside, "bit {bit} of the checksum itself");
        quiet += u32::from(!loud && refused.is_none());
    }
    // Quiet are: the property's own name, its offset, its length, and what hides it from a reader.
    assert!(quiet < 400, "{quiet} of {} flips go unnoticed", len * 8);
}

#[test]
fn sealed_twice_is_sealed() {
    let mut kernel = Kernel::cold(small_machine());
    let pfn = pages::alloc_folio(Order::ZERO).expect("memory");
    kernel
        .out
        .add_subtree(c"one", pfn.phys(), 64)
        .expect("room");
    // The tree goes on to change until the machine jumps.
    kernel.out.seal().expect("room");
    kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    let (loud, refused) = boot(kernel.kexec(&[pfn.raw()]));
    assert!(!loud && refused.is_none());
}

#[test]
fn no_room_no_checksum() {
    let mut kernel = Kernel::cold(small_machine());
    let pfn = pages::alloc_folio(Order::ZERO).expect("memory");
    kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    let mut count = 0u32;
    loop {
        let name = std::ffi::CString::new(format!("{count:x}")).expect("no NUL");
        if kernel.out.add_subtree(&name, pfn.phys(), 1).is_err() {
            break;
        }
        count += 1;
    }
    let page = kernel.out.fdt().expect("made").page().frame();
    let before = words_at(page.phys());
    let len = kernel.out.fdt().expect("made").page().len();
    let sealed = kernel.out.seal();
    let after = words_at(page.phys());
    assert_eq!(sealed, Err(crate::sys::error::ENOMEM));
    assert_eq!(before.as_bytes()[..len], after.as_bytes()[..len]);
}
