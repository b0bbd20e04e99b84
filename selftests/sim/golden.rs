// SPDX-License-Identifier: GPL-2.0

//! Bytes of "kho-v4" as a mainline kernel made them: a change of layout breaks these tests.
//!
//! The files under `golden/` were read from a mainline 7.3.4 kernel's debugfs (`kho/out/fdt`,
//! `kho/out/sub_fdts/kexec-metadata`).

use crate::kho::addr::PhysAddr;
use crate::kho::fdt::{memory_map, names, subtree, RootFdt, Subtree};
use crate::kho::metadata::{self, Metadata};
use crate::kho::tree::NodeStore;
use crate::sys::fdt::{Blob, Page};
use crate::sys::pages::BuddyNodes;

/// mainline's root FDT with its subtrees, `totalsize` bytes.
const FDT: &[u8] = include_bytes!("golden/mainline-7.3.4-root.fdt");

/// mainline's kexec-metadata.
const METADATA: &[u8] = include_bytes!("golden/mainline-7.3.4-kexec-metadata.bin");

/// Copies to memory that is aligned as FDTs are.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(padded);
    }
    words
}

#[test]
fn our_root_fdt_is_mainlines() {
    let words = aligned(FDT);
    let theirs = Blob::new(zerocopy::IntoBytes::as_bytes(words.as_slice()));
    let map = memory_map(&theirs).expect("mainline's FDT is good");
    let page = Page::new(BuddyNodes.alloc().expect("memory"));
    let mut ours = RootFdt::new(page, map).expect("room");
    // mainline puts each new node in front of the others.
    let mut all: Vec<(&core::ffi::CStr, Subtree)> = names(&theirs)
        .map(|name| (name, subtree(&theirs, name).expect("whole")))
        .collect();
    assert!(all.len() >= 2, "the golden file has subtrees");
    all.reverse();
    for (name, Subtree { data, size }) in all {
        ours.add(name, data, size).expect("room");
    }
    let frame = ours.page().frame();
    let bytes: Vec<u8> = (0..512).flat_map(|i| frame.word(i).to_ne_bytes()).collect();
    assert_eq!(ours.page().len(), FDT.len());
    assert_eq!(&bytes[..FDT.len()], FDT);
}

#[test]
fn kexec_metadata_is_mainlines() {
    let read = Metadata::decode(METADATA).expect("mainline's record is good");
    assert_eq!(read.release().to_string(), "7.3.4");
    assert_eq!(read.count, 1);
    assert_eq!(Metadata::new(b"7.3.4", 1).encode(), METADATA);
}

#[test]
fn a_full_fdt_undoes_what_does_not_fit() {
    let page = Page::new(BuddyNodes.alloc().expect("memory"));
    let mut fdt = RootFdt::new(page, PhysAddr::new(0x1000)).expect("room");
    let mut names = Vec::new();
    let full = loop {
        let name = std::ffi::CString::new(format!("subtree-{}", names.len())).expect("no NUL");
        let at = PhysAddr::new(0x10_0000 + 0x1000 * names.len() as u64);
        let before = fdt.page().len();
        match fdt.add(&name, at, 4096) {
            Ok(()) => names.push((name, at)),
            Err(err) => {
                assert_eq!(fdt.page().len(), before, "the FDT is as it was");
                break err;
            }
        }
    };
    assert_eq!(full, crate::sys::error::ENOMEM);
    assert!(names.len() > 40);
    assert_eq!(
        fdt.add(&names[0].0, PhysAddr::new(0x2000), 1),
        Err(crate::sys::error::EEXIST)
    );
    let frame = fdt.page().frame();
    let words: Vec<u64> = (0..512).map(|i| frame.word(i)).collect();
    let read = Blob::new(zerocopy::IntoBytes::as_bytes(words.as_slice()));
    for (name, at) in &names {
        let found = subtree(&read, name).expect("it is there");
        assert_eq!((found.data, found.size), (*at, 4096));
    }
    assert!(subtree(&read, c"nobody").is_err());
    for (_, at) in &names {
        assert!(fdt.remove(*at));
        assert!(!fdt.remove(*at));
    }
}

#[test]
fn metadata_name() {
    assert_eq!(metadata::NAME, c"kexec-metadata");
}
