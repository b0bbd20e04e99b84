// SPDX-License-Identifier: GPL-2.0

//! memfds with holes through updates of the simulated machine, as "memfd-v3".

use proptest::prelude::*;

use super::kernel::{owned, small_machine, Kernel};
use super::memfd::{File, Move};
use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::memfd_luo::extents::{Header, Name};
use crate::memfd_luo::format::Refusal;
use crate::memfd_luo::restore::Sparse;
use crate::memfd_luo::retrieve::Waiting;
use crate::memfd_luo::sparse::{self, About};
use crate::memfd_luo::table::Entry;
use crate::memfd_luo::{convert, preserve, Run};
use crate::sys::error::{Result, EHWPOISON, EINVAL, ENOMEM, EOPNOTSUPP};
use crate::sys::machine::{with, Config, Owner};
use crate::sys::{pages, Frame};

/// A file of folios of these orders, each after a hole of so many pages, with a last one of `tail`.
fn sparse_file(shape: &[(u32, u64)], tail: u64) -> File {
    let mut file = File {
        most: 7,
        fills: true,
        ..File::default()
    };
    let mut next = 0u64;
    for &(order, hole) in shape {
        let order = Order::new(order).expect("small");
        next = (next + hole).next_multiple_of(order.pages());
        file.add(&mut next, order);
    }
    file.size = (next + tail) * 4096;
    file
}

fn about(file: &File) -> About {
    About {
        size: file.size,
        pos: 5,
        seals: 0,
        mode: 0o640,
        name: Name::new(b"a name"),
    }
}

/// The frames that a preserved file needs besides its folios.
fn metadata(at: PhysAddr) -> Vec<u64> {
    let header = Header::load(Frame::at(at).expect("our own")).0;
    let mut frames = vec![at.pfn().raw()];
    let mut chunk = header.area.first;
    while let Some(frame) = Frame::at(chunk) {
        frames.push(chunk.pfn().raw());
        let entries = (1..512).map(|word| frame.word(word));
        frames.extend(entries.take_while(|e| *e != 0).map(|e| e >> 12));
        chunk = PhysAddr::new(frame.word(0));
    }
    frames
}

fn hand_over(kernel: &mut Kernel, file: &mut File) -> (Vec<u64>, PhysAddr) {
    let about = about(file);
    let at = sparse::preserve(kernel, file, &about).expect("memory");
    sparse::freeze(kernel, file, at, &about).expect("memory");
    assert_eq!(file.pinned, file.folios.len() as i64);
    let mut frames: Vec<u64> = file.frames().collect();
    frames.extend(metadata(at));
    (frames, at)
}

fn update(mut kernel: Kernel, file: &mut File) -> (Kernel, PhysAddr) {
    let (handed, at) = hand_over(&mut kernel, file);
    let (kernel, refused) = Kernel::warm(kernel.kexec(&handed));
    assert!(refused.is_none(), "{refused:?}");
    (kernel, at)
}

fn retrieve(
    kernel: &mut Kernel,
    at: PhysAddr,
    merge: Option<u32>,
    fails_in: Option<u64>,
) -> Result<File, Refusal> {
    retrieve_in(kernel, at, merge, 9, fails_in)
}

/// The same, in a kernel whose largest folios are of order `most`.
fn retrieve_in(
    kernel: &mut Kernel,
    at: PhysAddr,
    merge: Option<u32>,
    most: u32,
    fails_in: Option<u64>,
) -> Result<File, Refusal> {
    let waiting = Sparse::claim(kernel, at)?;
    let mut file = File {
        size: waiting.header().size,
        fails_in,
        ..File::default()
    };
    let merge = merge.and_then(Order::new);
    let done = waiting.retrieve(kernel, &mut file, merge, Order::new(most).expect("small"));
    if done.is_err() {
        assert!(file.folios.is_empty(), "it was undone");
    }
    done.map(|()| file)
}

/// Each page of a file with its frame.
fn places(file: &File) -> Vec<(u64, u64)> {
    let all = file.folios.iter();
    all.flat_map(|(index, (pfn, order))| {
        (0..order.pages()).map(move |n| (index + n, pfn.raw() + n))
    })
    .collect()
}

fn waiting() -> u64 {
    with(|m| m.count(Owner::Waiting))
}

fn a_shape() -> impl Strategy<Value = Vec<(u32, u64)>> {
    a_shape_with_holes(300)
}

/// Holes of less than so many pages.
fn a_shape_with_holes(most: u64) -> impl Strategy<Value = Vec<(u32, u64)>> {
    let folio = (
        prop_oneof![4 => Just(0u32), 1 => 1u32..5],
        prop_oneof![6 => Just(0u64), 1 => 1..most],
    );
    proptest::collection::vec(folio, 0..300)
}

fn a_move() -> impl Strategy<Value = Move> {
    let page = 0u64..400;
    prop_oneof![
        4 => page.clone().prop_map(Move::Write),
        4 => page.clone().prop_map(Move::Reclaim),
        1 => page.clone().prop_map(Move::Collapse),
        1 => page.clone().prop_map(Move::Migrate),
        1 => page.prop_map(Move::Split),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_comes_back_with_its_holes(shape in a_shape(), tail in 0u64..9, merge in proptest::option::of(0u32..10)) {
        let kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, tail);
        let expected = places(&file);
        let folios = file.folios.clone();
        let (mut kernel, at) = update(kernel, &mut file);
        let owned_before = owned();
        let back = retrieve(&mut kernel, at, merge, None).expect("nothing is wrong");
        prop_assert!(back.published);
        prop_assert_eq!(places(&back), expected);
        match merge {
            None => prop_assert_eq!(&back.folios, &folios),
            Some(most) => prop_assert!(back.folios.values().all(|(_, order)| order.raw() <= most)),
        }
        for (index, pfn) in places(&back) {
            prop_assert_eq!(Frame::at(Pfn::new(pfn).phys()).expect("RAM").word(7), index);
        }
        prop_assert!(retrieve(&mut kernel, at, merge, None).is_err());
        prop_assert!(waiting() <= 2);
        back.free();
        prop_assert_eq!(owned(), owned_before);
    }

    #[test]
    fn a_failure_after_the_update_is_undone(shape in a_shape(), nth in 0u64..6, merge in proptest::option::of(0u32..10)) {
        let kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 0);
        let expected = places(&file);
        let (mut kernel, at) = update(kernel, &mut file);
        let before = waiting();
        if let Err(refusal) = retrieve(&mut kernel, at, merge, Some(nth)) {
            prop_assert_eq!(refusal.error, ENOMEM);
            prop_assert_eq!(waiting(), before);
            let back = retrieve(&mut kernel, at, None, None).expect("as if nothing had been");
            prop_assert_eq!(places(&back), expected);
        }
        prop_assert!(waiting() <= 2);
    }

    /// Once folios may be in swap there is no way back: what is in the file dies with it, and
    /// nobody gets the rest.
    #[test]
    fn what_cannot_be_undone_stays_out_of_use(shape in a_shape(), nth in 0u64..6) {
        let kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 0);
        let (mut kernel, at) = update(kernel, &mut file);
        let claimed = Sparse::claim(&mut kernel, at).expect("it is there");
        let mut back = File { shared: true, fails_in: Some(nth), ..File::default() };
        let order = Order::new(9).expect("small");
        let done = claimed.retrieve(&mut kernel, &mut back, Some(order), order);
        back.free();
        if done.is_err() && !shape.is_empty() {
            let claimed = Sparse::claim(&mut kernel, at).expect("it waits");
            prop_assert!(claimed.discard(&mut kernel).is_err());
        }
    }

    #[test]
    fn a_file_nobody_wants_is_freed(shape in a_shape()) {
        let kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 3);
        let (mut kernel, at) = update(kernel, &mut file);
        let owned_before = owned();
        let given_up = Sparse::claim(&mut kernel, at).expect("it is there");
        given_up.discard(&mut kernel).expect("nothing is wrong");
        prop_assert!(waiting() <= 2);
        prop_assert_eq!(owned(), owned_before);
    }

    /// Pages that come into holes until the freeze are handed over.
    #[test]
    fn what_comes_into_holes_is_found(shape in a_shape(), more in proptest::collection::btree_set(0u64..2000, 0..60)) {
        let mut kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 40);
        let about = about(&file);
        let at = sparse::preserve(&mut kernel, &mut file, &about).expect("memory");
        for page in more {
            let taken = file.folios.range(..=page).next_back();
            let taken = taken.is_some_and(|(i, (_, order))| i + order.pages() > page);
            if !taken && page < file.size / 4096 {
                file.add(&mut { page }, Order::ZERO);
            }
        }
        let expected = places(&file);
        sparse::freeze(&mut kernel, &mut file, at, &about).expect("memory");
        prop_assert_eq!(file.pinned, file.folios.len() as i64);
        let mut frames: Vec<u64> = file.frames().collect();
        frames.extend(metadata(at));
        let (mut kernel, refused) = Kernel::warm(kernel.kexec(&frames));
        prop_assert!(refused.is_none());
        let back = retrieve(&mut kernel, at, Some(9), None).expect("nothing is wrong");
        prop_assert_eq!(places(&back), expected);
    }

    /// Whatever others do to a file's pages between its preservation and its freeze, and while it
    /// is looked at: what is in it is handed over.
    #[test]
    fn others_cost_no_page(
        shape in a_shape_with_holes(8),
        before in proptest::collection::vec(a_move(), 0..40),
        meanwhile in proptest::collection::vec(a_move(), 0..4),
    ) {
        let mut kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 40);
        let about = about(&file);
        let at = sparse::preserve(&mut kernel, &mut file, &about).expect("memory");
        before.into_iter().for_each(|step| file.play(step));
        // From the freeze on nothing comes into holes.
        let mut still = file.clone();
        file.meanwhile = meanwhile.into_iter().filter(|step| step.keeps_holes(&still)).collect();
        still.away.iter().for_each(|page| { still.folios.insert(*page, (Pfn::new(0), Order::ZERO)); });
        let expected: Vec<u64> = places(&still).into_iter().map(|(index, _)| index).collect();
        sparse::freeze(&mut kernel, &mut file, at, &about).expect("memory");
        prop_assert!(file.away.is_empty());
        prop_assert_eq!(file.pinned, file.folios.len() as i64);
        let mut frames: Vec<u64> = file.frames().collect();
        frames.extend(metadata(at));
        let (mut kernel, refused) = Kernel::warm(kernel.kexec(&frames));
        prop_assert!(refused.is_none());
        let back = retrieve(&mut kernel, at, Some(9), None).expect("nothing is wrong");
        let found: Vec<u64> = places(&back).into_iter().map(|(index, _)| index).collect();
        prop_assert_eq!(found, expected);
        for (index, pfn) in places(&back) {
            prop_assert_eq!(Frame::at(Pfn::new(pfn).phys()).expect("RAM").word(7), index);
        }
    }

    /// Its folios are cut there; what cannot be had waits as it was, for whoever can have it.
    #[test]
    fn a_kernel_with_smaller_folios_takes_a_file(
        shape in a_shape(), most in 0u32..4, merge in proptest::option::of(0u32..10), nth in 0u64..6,
    ) {
        let kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 0);
        let expected = places(&file);
        let (mut kernel, at) = update(kernel, &mut file);
        let before = waiting();
        let back = retrieve_in(&mut kernel, at, merge, most, Some(nth)).or_else(|refusal| {
            assert_eq!((refusal.error, waiting()), (ENOMEM, before));
            retrieve_in(&mut kernel, at, merge, most, None)
        });
        let back = back.expect("as if nothing had been");
        prop_assert_eq!(places(&back), expected);
        prop_assert!(back.folios.values().all(|(_, order)| order.raw() <= most));
        prop_assert!(waiting() <= 2);
    }

    /// Memory that turns out to be bad after it was preserved is found, in either version.
    #[test]
    fn bad_memory_is_found(shape in a_shape_with_holes(8), which in any::<prop::sample::Index>()) {
        let mut kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 0);
        let about = about(&file);
        let at = sparse::preserve(&mut kernel, &mut file, &about).expect("memory");
        prop_assert_eq!(sparse::judge(&mut file, at), Ok(()));
        let frames: Vec<u64> = file.frames().collect();
        prop_assume!(!frames.is_empty());
        let bad = *which.get(&frames);
        file.bad.insert(bad);
        prop_assert_eq!(sparse::judge(&mut file, at), Err(EHWPOISON));
        convert::to_records(&mut kernel, &mut file, at).expect("memory");
        prop_assert_eq!(preserve::judge(&mut file, at), Err(EHWPOISON));
        file.bad.clear();
        prop_assert_eq!(preserve::judge(&mut file, at), Ok(()));
    }

    /// From one version to the other and back: as if it had been preserved so.
    #[test]
    fn a_file_is_converted(shape in a_shape_with_holes(8), back_again in any::<bool>()) {
        let mut kernel = Kernel::cold(small_machine());
        let before = owned();
        let mut file = sparse_file(&shape, 2);
        let about = about(&file);
        let at = sparse::preserve(&mut kernel, &mut file, &about).expect("memory");
        convert::to_records(&mut kernel, &mut file, at).expect("memory");
        prop_assert_eq!(file.pinned, file.folios.len() as i64);
        prop_assert_eq!(file.frames().count() as u64, file.size.div_ceil(4096));
        if back_again {
            convert::to_extents(&mut kernel, &mut file, at, &about).expect("memory");
            sparse::unpreserve(&mut kernel, &mut file, at);
            prop_assert_eq!(file.pinned, 0);
            file.free();
            prop_assert_eq!(owned(), before);
        } else {
            preserve::freeze(at, 5, 0).expect("it is there");
            let mut frames: Vec<u64> = file.frames().collect();
            frames.extend(super::memfd::metadata(at));
            let expected = places(&file);
            let (mut kernel, refused) = Kernel::warm(kernel.kexec(&frames));
            prop_assert!(refused.is_none());
            let waiting = Waiting::claim(&mut kernel, at).expect("version 2");
            let mut back = File::default();
            waiting.retrieve(&mut kernel, &mut back, Order::new(9).expect("small")).expect("whole");
            prop_assert_eq!(places(&back), expected);
        }
    }

    /// A bit of header or extents that is not as it was costs the file, and nothing else.
    #[test]
    fn a_flipped_bit_is_seen(shape in a_shape(), page in any::<prop::sample::Index>(), word in 0usize..64, bit in 0u32..64) {
        let mut kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&shape, 1);
        let expected = places(&file);
        let (handed, at) = hand_over(&mut kernel, &mut file);
        let pages = metadata(at);
        let handed = kernel.kexec(&handed);
        let place = Pfn::new(*page.get(&pages)).phys();
        let old = with(|m| m.peek(place, word));
        with(|m| m.poke(place, word, old ^ 1 << bit));
        let (mut kernel, refused) = Kernel::warm(handed);
        prop_assert!(refused.is_none());
        let before = waiting();
        match retrieve(&mut kernel, at, Some(9), None) {
            // Nothing of the file stands there.
            Ok(back) => prop_assert_eq!(places(&back), expected),
            Err(_) => {
                prop_assert_eq!(waiting(), before);
                with(|m| m.poke(place, word, old));
                let back = retrieve(&mut kernel, at, Some(9), None).expect("whole again");
                prop_assert_eq!(places(&back), expected);
            }
        }
    }

    #[test]
    fn any_extent_is_read(words in proptest::array::uniform3(any::<u64>())) {
        let page = Frame::at(pages::alloc_folio(Order::ZERO).expect("memory").phys()).expect("RAM");
        words.iter().enumerate().for_each(|(at, word)| page.set_word(at, *word));
        let read = Run::load(page, 0).expect("always one");
        if read.count > 0 {
            read.store(page, 0);
            let again = [0, 1, 2].map(|at| page.word(at));
            prop_assert_eq!(again, words);
        }
    }
}

/// What a liar writes whose checksum is right: each is refused, and all waits as before.
#[test]
fn what_is_unknown_or_impossible_is_refused() {
    type Lie = fn(&mut Header, &mut Vec<Run>);
    let lies: [(Lie, _); 14] = [
        (|h, _| h.size = 1 << 63, EINVAL),
        (|h, _| h.pos = 1 << 63, EINVAL),
        (|h, _| h.seals = 0x40, EOPNOTSUPP),
        (|h, _| h.flags = 1, EOPNOTSUPP),
        (|h, _| h.page_order = 9, EOPNOTSUPP),
        (|h, _| h.mode = 0o100644, EINVAL),
        (|h, _| h.held += 1, EINVAL),
        (|h, _| h.size = 4096, EINVAL),
        (|h, _| h.extents = 171, EINVAL),
        (|_, e| e[1].index = 0, EINVAL),
        (|_, e| e[1].count = 0, EINVAL),
        (|_, e| e[1].count = 1 << 47, EINVAL),
        (|_, e| e[1].pfn = e[0].pfn, EINVAL),
        (|_, e| e[0].order = Order::new(3).unwrap(), EINVAL),
    ];
    for (number, (lie, error)) in lies.into_iter().enumerate() {
        let mut kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&[(0, 0), (0, 3), (0, 3)], 0);
        let (handed, at) = hand_over(&mut kernel, &mut file);
        let page = Frame::at(at).expect("our own");
        let mut header = Header::load(page).0;
        let list = Frame::at(header.area.first).expect("our own");
        let records = Frame::at(PhysAddr::new(list.word(1))).expect("our own");
        let mut extents: Vec<Run> = (0..3).map(|n| Run::load(records, 3 * n).unwrap()).collect();
        lie(&mut header, &mut extents);
        for (n, extent) in extents.iter().enumerate() {
            extent.store(records, 3 * n);
        }
        header.store(page, extents.into_iter());
        let (mut kernel, refused) = Kernel::warm(kernel.kexec(&handed));
        assert!(refused.is_none());
        let before = waiting();
        let refused = retrieve(&mut kernel, at, Some(9), None).expect_err("it lies");
        assert_eq!(refused.error, error, "lie {number}: {}", refused.why);
        assert_eq!(waiting(), before, "lie {number}");
    }
}

/// Every allocation fails once, and every pin, of preserving, of looking again, and of converting.
#[test]
fn a_failure_before_the_update_is_undone() {
    let mut kernel = Kernel::cold(small_machine());
    let shape: Vec<(u32, u64)> = (0..500).map(|n| (u32::from(n % 90 == 0), n % 7)).collect();
    let mut file = sparse_file(&shape, 0);
    let about = about(&file);
    let bare = owned();
    let mut at = PhysAddr::new(0);
    for step in 0..4 {
        if step == 1 {
            // Something comes into the first hole.
            file.add(&mut 2, Order::ZERO);
        }
        for pins in [false, true] {
            let mut nth = 0;
            loop {
                let pinned = file.pinned;
                if pins {
                    file.fails_in = Some(nth);
                } else {
                    with(|m| m.faults.nth = Some(m.allocations() + nth));
                }
                let done = match step {
                    0 => sparse::preserve(&mut kernel, &mut file, &about).map(|page| at = page),
                    1 => sparse::freeze(&mut kernel, &mut file, at, &about),
                    2 => convert::to_records(&mut kernel, &mut file, at),
                    _ => convert::to_extents(&mut kernel, &mut file, at, &about),
                };
                with(|m| m.faults.nth = None);
                file.fails_in = None;
                if done.is_ok() {
                    break;
                }
                assert_eq!(done, Err(ENOMEM));
                // Holes that were filled are preserved.
                let filled = step == 2 && file.pinned == file.folios.len() as i64;
                assert!(
                    file.pinned == pinned || filled,
                    "step {step}, failure {nth}"
                );
                nth += 1;
            }
            if step == 0 && !pins {
                assert!(nth > 4, "only {nth} failures");
                sparse::unpreserve(&mut kernel, &mut file, at);
                assert_eq!((owned(), file.pinned), (bare, 0));
            } else if step == 2 && !pins {
                convert::to_extents(&mut kernel, &mut file, at, &about).expect("memory");
            } else if step == 3 && !pins {
                convert::to_records(&mut kernel, &mut file, at).expect("memory");
            }
        }
    }
    sparse::unpreserve(&mut kernel, &mut file, at);
    assert_eq!(file.pinned, 0);
}

/// A page that came into a hole, and comes from swap or goes there at any look of the freeze.
#[test]
fn a_page_on_its_way_is_not_missed() {
    const LATE: u64 = 2;
    let steps = [Move::Split(0), Move::Write(LATE), Move::Reclaim(LATE)];
    for number in 0..2 * 27 {
        let mut kernel = Kernel::cold(small_machine());
        let mut file = sparse_file(&[(0, 0)], 4);
        let about = about(&file);
        let at = sparse::preserve(&mut kernel, &mut file, &about).expect("memory");
        file.play(Move::Write(LATE));
        if number >= 27 {
            file.play(Move::Reclaim(LATE));
        }
        file.meanwhile = [number, number / 3, number / 9]
            .map(|n| steps[n % 3])
            .into();
        sparse::freeze(&mut kernel, &mut file, at, &about).expect("memory");
        let all = (file.away.len(), file.folios.len(), file.pinned);
        assert_eq!(all, (0, 2, 2), "case {number}");
    }
}

/// A preserved file with holes and folios of two orders: its header, and its folios.
pub(super) fn a_file_handed_over(kernel: &mut Kernel) -> (PhysAddr, Vec<PhysAddr>) {
    let (file, at) = handed_over(kernel);
    let folios = file.folios.values().map(|(pfn, _)| pfn.phys()).collect();
    (at, folios)
}

fn handed_over(kernel: &mut Kernel) -> (File, PhysAddr) {
    let mut file = sparse_file(&[(0, 1), (0, 0), (1, 5)], 0x10);
    let about = About {
        size: file.size,
        pos: 0x1122_3344_5566_7788,
        seals: 0x2f,
        mode: 0o600,
        name: Name::new(b"guest-ram"),
    };
    let at = sparse::preserve(kernel, &mut file, &about).expect("memory");
    sparse::freeze(kernel, &mut file, at, &about).expect("memory");
    (file, at)
}

/// The bytes, as Documentation/abi.rst has them.
#[test]
fn the_bytes_are_these() {
    let mut kernel = Kernel::cold(small_machine());
    let (file, at) = handed_over(&mut kernel);
    let page = Frame::at(at).expect("our own");
    let list = Frame::at(PhysAddr::new(page.word(6))).expect("our own");
    let records = Frame::at(PhysAddr::new(list.word(1))).expect("our own");
    let [one, two] = [1, 8].map(|index| file.folios[&index].0.raw());
    let words: Vec<u64> = (0..9).map(|word| page.word(word)).collect();
    assert_eq!(
        words[..4],
        [
            0x1a * 4096,
            0x1122_3344_5566_7788,
            0x2f | 0o600 << 32,
            9 << 32
        ]
    );
    assert_eq!(words[4..6], [2, 4]);
    assert_eq!(words[7], 1 | 1 << 32, "a page, VM_ALLOC, order 0");
    assert_eq!(
        [page.word(16), page.word(17)],
        [u64::from_ne_bytes(*b"guest-ra"), u64::from(b'm')]
    );
    let extents: Vec<u64> = (0..7).map(|word| records.word(word)).collect();
    assert_eq!(
        extents,
        [1, one, 2 | 1 << 56, 8, two, 1 | 1 << 48 | 1 << 56, 0]
    );
    let header = Header::load(page).0;
    let runs = [0, 3].map(|at| Run::load(records, at).unwrap());
    assert_eq!(words[8], header.sum(runs.into_iter()));
}

/// An extent that lies in two leaves of the tree is claimed whole, or not at all.
#[test]
fn an_extent_may_cross_leaves() {
    const LEAF: u64 = 1 << 15;
    let machine = Config {
        nodes: vec![LEAF + 8192],
        hole: 256,
    };
    for taken in [false, true] {
        let kernel = Kernel::cold(machine.clone());
        // What is below is somebody else's.
        while pages::alloc_folio(Order::ZERO).expect("memory").raw() < LEAF - 2000 {}
        let mut file = sparse_file(&[(0, 0); 5000], 0);
        let expected = places(&file);
        let crosses = |pair: &[(u64, u64)]| pair[0].1 + 1 == LEAF && pair[1].1 == LEAF;
        assert!(expected.windows(2).any(crosses), "nothing is tested");
        let (mut kernel, at) = update(kernel, &mut file);
        let before = waiting();
        if taken {
            // Somebody has a page of it, in the second leaf.
            let page = Pfn::new(LEAF + 5);
            let incoming = kernel.incoming.as_mut().expect("it arrived");
            assert!(incoming.claim_run(page, Order::ZERO, 1));
            assert_eq!(
                retrieve(&mut kernel, at, Some(9), None)
                    .expect_err("taken")
                    .error,
                EINVAL
            );
            let incoming = kernel.incoming.as_mut().expect("it arrived");
            incoming
                .unclaim_run(page, Order::ZERO, 1)
                .expect("the node is there");
            assert_eq!(waiting(), before);
        }
        let back = retrieve(&mut kernel, at, Some(9), None).expect("whole");
        assert_eq!(places(&back), expected);
    }
}
