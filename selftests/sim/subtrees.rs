// SPDX-License-Identifier: GPL-2.0

//! Named blobs that are not preserved, in part or at all: each costs itself only.

use std::ffi::{CStr, CString};

use super::kernel::{small_machine, Kernel};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::sys::early::Mapped;
use crate::sys::error::{Error, EINVAL, ENOENT};
use crate::sys::fdt::Blob;
use crate::sys::machine::with;
use crate::sys::pages;

/// A kernel that has preserved two neighbouring pages of four; the addresses of all.
fn owner() -> (Kernel, [PhysAddr; 4]) {
    let mut kernel = Kernel::cold(small_machine());
    let first = pages::alloc_folio(Order::new(2).expect("small")).expect("memory");
    let kept = PageRange::new(first.plus(1), 2);
    kernel.out.preserve_pages(kept).expect("memory");
    (kernel, [0, 1, 2, 3].map(|page| first.plus(page).phys()))
}

/// Updates with blobs of these addresses and sizes, and one that is good; says what is found of
/// them, in their order, and what was logged about them at boot.
fn found(blobs: &[(PhysAddr, u64)], owner: (Kernel, [PhysAddr; 4])) -> Vec<Result<u64, Error>> {
    let (mut kernel, pages) = owner;
    let name = |n: usize| CString::new(format!("blob-{n}")).expect("no NUL");
    for (n, &(data, size)) in blobs.iter().enumerate() {
        kernel.out.add_subtree(&name(n), data, size).expect("room");
    }
    kernel
        .out
        .add_subtree(c"good", pages[2], 4096)
        .expect("room");
    let left = [pages[1], pages[2]].map(|page| page.pfn().raw());
    let handed = kernel.kexec(&left);
    let (mut kernel, refused) = Kernel::warm(handed);
    assert!(refused.is_none(), "{refused:?}");
    with(|m| m.take_log());
    let mapped = Mapped::new(handed.fdt, 4096).expect("it was judged");
    let fdt = Blob::new(mapped.bytes());
    let ask = |kernel: &Kernel, name: &CStr| kernel.subtree(&fdt, name).map(|got| got.size);
    let answers = (0..blobs.len()).map(|n| {
        let answer = ask(&kernel, &name(n));
        let log = with(|m| m.take_log()).join("\n");
        let named = log.contains(&format!("blob-{n}"));
        assert_eq!(named, answer == Err(EINVAL), "blob {n}: {log}");
        answer
    });
    let answers = answers.collect();
    assert_eq!(ask(&kernel, c"good"), Ok(4096));
    assert_eq!(ask(&kernel, c"nobody"), Err(ENOENT));
    // Its memory was given out: it was preserved all the same.
    assert!(kernel.restore_pages(PageRange::new(pages[1].pfn(), 2)));
    assert_eq!(ask(&kernel, c"good"), Ok(4096));
    answers
}

#[test]
fn all_of_a_blob_must_be_preserved() {
    let (kernel, pages) = owner();
    let within = |page: usize, bytes: u64| PhysAddr::new(pages[page].raw() + bytes);
    let blobs = [
        // Good: a page, two, the rest of one, none of it.
        (pages[1], 4096),
        (pages[1], 8192),
        (within(1, 100), 8092),
        (pages[1], 0),
        // Not: before, after, across either end, by a byte, an empty one.
        (pages[0], 4096),
        (pages[3], 8),
        (pages[0], 8192),
        (pages[2], 8192),
        (pages[1], 8193),
        (within(0, 4095), 2),
        (pages[3], 0),
    ];
    let answers = found(&blobs, (kernel, pages));
    for (n, (answer, (_, size))) in answers.into_iter().zip(blobs).enumerate() {
        let wanted = if n < 4 { Ok(size) } else { Err(EINVAL) };
        assert_eq!(answer, wanted, "blob {n}");
    }
}

#[test]
fn what_the_handover_itself_uses_is_no_blob() {
    let (kernel, pages) = owner();
    let node = Pfn::new(kernel.nodes()[0]).phys();
    let fdt = kernel.out.fdt().expect("made").page().frame().phys();
    let blobs = [(node, 4096), (fdt, 4096)];
    assert_eq!(found(&blobs, (kernel, pages)), [Err(EINVAL), Err(EINVAL)]);
}

#[test]
fn addresses_that_cannot_be() {
    let blobs = [
        (PhysAddr::new(0), 4096),
        (PhysAddr::new(1 << 51), 4096),
        (PhysAddr::new(4096), 4096),
        (PhysAddr::new(u64::MAX), 1),
        (PhysAddr::new(u64::MAX - 4096), 4097),
        (PhysAddr::new(1 << 20), u64::MAX),
    ];
    let answers = found(&blobs, owner());
    assert!(answers.iter().all(|answer| *answer == Err(EINVAL)));
}
