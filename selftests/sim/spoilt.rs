// SPDX-License-Identifier: GPL-2.0

//! What each of LUO's corruptions does to the bytes of a handover: what its name says, and nothing
//! else.

use super::kernel::{small_machine, Kernel};
use crate::kho::addr::{Order, PhysAddr};
use crate::kho::block;
use crate::kho::corrupt::NOWHERE;
use crate::luo::corrupt::Corruption;
use crate::sys::error::ENOENT;
use crate::sys::fdt::Blob;
use crate::sys::{pages, Frame, FRAME_WORDS};

/// A handover with two blocks of sessions, and two of the second session's files.
struct Handover {
    kernel: Kernel,
    luo: Frame,
    sessions: [Frame; 2],
    files: [Frame; 2],
    flbs: Frame,
}

/// Words of a session and of a file; a block's header has two.
const SESSION: usize = 10;
const FILE: usize = 8;

fn put(page: Frame, at: usize, text: &[u8]) {
    for (word, bytes) in (at..).zip(text.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        page.set_word(word, u64::from_ne_bytes(padded));
    }
}

fn text(page: Frame, at: usize, words: usize) -> Vec<u8> {
    (at..at + words)
        .flat_map(|word| page.word(word).to_ne_bytes())
        .collect()
}

impl Handover {
    fn new() -> Self {
        let mut kernel = Kernel::cold(small_machine());
        let mut page = || {
            let pfn = pages::alloc_folio(Order::ZERO).expect("memory");
            (kernel.out.preserve_block(pfn, Order::ZERO)).expect("memory");
            Frame::at(pfn.phys()).expect("RAM")
        };
        let (luo, flbs) = (page(), page());
        let sessions = [page(), page()];
        let files = [page(), page()];
        put(luo, 0, b"luo-v5");
        luo.set_word(1, 1);
        luo.set_word(2, sessions[0].phys().raw());
        luo.set_word(3, flbs.phys().raw());
        for (chain, in_second) in [(sessions, 3), (files, 4)] {
            block::set_next(chain[0], chain[1].phys());
            block::set_count(chain[1], in_second);
        }
        block::set_count(sessions[0], 51);
        block::set_count(files[0], 63);
        for number in 0..54 {
            let at = 2 + number % 51 * SESSION;
            put(
                sessions[number / 51],
                at,
                format!("session-{number}").as_bytes(),
            );
        }
        sessions[0].set_word(2 + SESSION + 8, files[0].phys().raw());
        sessions[0].set_word(2 + SESSION + 9, 67);
        for number in 0..67 {
            let (page, at) = (files[number / 63], 2 + number % 63 * FILE);
            put(page, at, b"memfd-v2");
            page.set_word(at + 7, 100 + number as u64);
        }
        flbs.set_word(0, 1);
        flbs.set_word(1, 1);
        put(flbs, 2, b"an-flb");
        flbs.set_word(9, 3);
        (kernel.out.add_subtree(c"LUO", luo.phys(), 32)).expect("room");
        Self {
            kernel,
            luo,
            sessions,
            files,
            flbs,
        }
    }

    fn spoil(&mut self, corruption: Corruption) {
        let fdt = self.kernel.out.fdt_mut().expect("made at boot");
        corruption.apply(fdt).expect("there is something to spoil");
    }

    /// All words, but the FDT's.
    fn words(&self) -> Vec<u64> {
        [self.luo, self.flbs]
            .iter()
            .chain(&self.sessions)
            .chain(&self.files)
            .flat_map(|page| (0..FRAME_WORDS).map(|word| page.word(word)))
            .collect()
    }

    fn subtree_size(&self) -> u64 {
        let frame = self.kernel.out.fdt().expect("made at boot").page().frame();
        let words: Vec<u64> = (0..FRAME_WORDS).map(|word| frame.word(word)).collect();
        let blob = Blob::new(zerocopy::IntoBytes::as_bytes(words.as_slice()));
        crate::kho::fdt::subtree(&blob, c"LUO")
            .expect("it is there")
            .size
    }
}

/// A handover spoilt in one way, and how many of its words that changed.
fn spoilt(corruption: Corruption) -> (Handover, usize) {
    let mut handover = Handover::new();
    let before = handover.words();
    handover.spoil(corruption);
    let changed = before
        .iter()
        .zip(handover.words())
        .filter(|(a, b)| **a != *b);
    let changed = changed.count();
    (handover, changed)
}

#[test]
fn addresses_leave_memory() {
    let (it, changed) = spoilt(Corruption::SessionsWild);
    assert_eq!((it.luo.word(2), changed), (NOWHERE, 1));
    let (it, changed) = spoilt(Corruption::FlbWild);
    assert_eq!((it.luo.word(3), changed), (NOWHERE, 1));
    let (it, changed) = spoilt(Corruption::FilesWild);
    assert_eq!(
        (it.sessions[0].word(2 + SESSION + 8), changed),
        (NOWHERE, 1)
    );
}

#[test]
fn the_state_is_of_no_version_or_cut_short() {
    let (it, changed) = spoilt(Corruption::LuoCompatible);
    assert_eq!((text(it.luo, 0, 1), changed), (b"luo-v99\0".to_vec(), 1));
    let (it, changed) = spoilt(Corruption::LuoShort);
    assert_eq!((it.subtree_size(), changed), (31, 0));
}

#[test]
fn sessions_move_to_a_page_that_is_not_preserved() {
    let (mut it, changed) = spoilt(Corruption::SessionsUnpreserved);
    let now = Frame::at(PhysAddr::new(it.luo.word(2))).expect("RAM");
    assert_eq!(changed, 1);
    assert_eq!(text(now, 2, 1), b"session-");
    assert!(!it
        .kernel
        .out
        .unpreserve_block(now.phys().pfn(), Order::ZERO));
}

#[test]
fn names_do_not_end_or_begin() {
    let victim = 2 + SESSION;
    let (it, changed) = spoilt(Corruption::SessionNameUnterminated);
    let name = text(it.sessions[0], victim, 8);
    assert!(name.starts_with(b"session-1xx") && !name.contains(&0) && changed == 7);
    let (it, changed) = spoilt(Corruption::SessionNameEmpty);
    assert_eq!((text(it.sessions[0], victim, 8), changed), (vec![0; 64], 2));
    let (it, changed) = spoilt(Corruption::SessionDuplicate);
    let last = text(it.sessions[1], 2 + 2 * SESSION, 8);
    assert_eq!((last, changed), (text(it.sessions[0], victim, 8), 1));
    let (it, changed) = spoilt(Corruption::FileCompatUnterminated);
    let name = text(it.files[0], 2 + FILE, 6);
    assert!(name.starts_with(b"memfd-v2xx") && !name.contains(&0) && changed == 5);
    let (it, changed) = spoilt(Corruption::FileUnknownHandler);
    assert_eq!(
        (text(it.files[0], 2 + FILE, 1), changed),
        (b"luo-v99\0".to_vec(), 1)
    );
    let (it, changed) = spoilt(Corruption::FlbNameUnterminated);
    let name = text(it.flbs, 2, 6);
    assert!(name.starts_with(b"an-flbxx") && !name.contains(&0) && changed == 6);
}

#[test]
fn chains_become_rings() {
    let (it, changed) = spoilt(Corruption::SessionCycle);
    assert_eq!(
        (block::next(it.sessions[1]), changed),
        (it.sessions[0].phys(), 1)
    );
    let (it, changed) = spoilt(Corruption::FilesCycle);
    assert_eq!((block::next(it.files[1]), changed), (it.files[0].phys(), 1));
}

#[test]
fn counts_lie() {
    let (it, changed) = spoilt(Corruption::SessionCountHuge);
    assert_eq!((block::count(it.sessions[0]), changed), (52, 1));
    let (it, changed) = spoilt(Corruption::SessionCountZero);
    assert_eq!((block::count(it.sessions[0]), changed), (0, 1));
    let (it, changed) = spoilt(Corruption::BlockCount);
    assert_eq!((block::count(it.files[0]), changed), (1 << 63, 1));
    let (it, changed) = spoilt(Corruption::FilesCount);
    assert_eq!((it.sessions[0].word(2 + SESSION + 9), changed), (68, 1));
    let (it, changed) = spoilt(Corruption::FlbPages);
    assert_eq!((it.flbs.word(0), it.flbs.word(1), changed), (1 << 40, 1, 1));
    let (it, changed) = spoilt(Corruption::FlbCountHuge);
    assert_eq!((it.flbs.word(0), it.flbs.word(1), changed), (1, 1 << 40, 1));
    let (it, changed) = spoilt(Corruption::FlbRefZero);
    assert_eq!((it.flbs.word(9), changed), (0, 1));
    let (it, changed) = spoilt(Corruption::FlbRefHuge);
    assert_eq!((it.flbs.word(9), changed), (1 << 40, 1));
}

#[test]
fn two_files_have_one_token() {
    let (it, changed) = spoilt(Corruption::TokenDuplicate);
    assert_eq!((it.files[0].word(2 + FILE + 7), changed), (100, 1));
}

#[test]
fn every_one_is_known_by_its_name() {
    for &(name, corruption) in Corruption::ALL {
        assert_eq!(
            Corruption::named(format!(" {name}\n").as_bytes()),
            Some(corruption)
        );
        assert!(crate::kho::corrupt::Corruption::named(name.as_bytes()).is_none());
    }
}

#[test]
fn what_is_not_there_cannot_be_spoilt() {
    let mut handover = Handover::new();
    block::set_count(handover.sessions[0], 1);
    let fdt = handover.kernel.out.fdt_mut().expect("made at boot");
    assert_eq!(Corruption::FilesWild.apply(fdt), Err(ENOENT));
    let mut bare = Kernel::cold(small_machine());
    let fdt = bare.out.fdt_mut().expect("made at boot");
    assert_eq!(Corruption::LuoCompatible.apply(fdt), Err(ENOENT));
}
