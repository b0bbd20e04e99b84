// SPDX-License-Identifier: GPL-2.0

//! Boots of particular handovers: fragmented memory, wrong headers, trees that cannot be.

use super::kernel::{owned, small_machine, Handed, Kernel, Moment};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::boot::Refusal;
use crate::kho::fdt::Unusable;
use crate::kho::key::encode;
use crate::kho::scratch::List;
use crate::kho::tree::{LeafCache, NodeStore, Tree};
use crate::sys::machine::{with, Config, Owner};
use crate::sys::pages::{self, BuddyNodes};
use crate::sys::{early, Frame};

/// Overwrites a word that was handed over.
fn poke(at: PhysAddr, word: usize, value: u64) {
    with(|m| m.poke(at, word, value));
}

fn peek(at: PhysAddr, word: usize) -> u64 {
    with(|m| m.peek(at, word))
}

/// Boots from `handed`, expects a refusal, and shows that the machine is as good as new: it can
/// hand over memory again.
fn refused(handed: Handed) -> Refusal {
    let (kernel, why) = Kernel::warm(handed);
    let why = why.expect("refused");
    assert!(kernel.incoming.is_none());
    assert_eq!(with(|m| m.count(Owner::Left)), 0);
    works(kernel);
    why
}

/// The kernel can hand over memory.
fn works(mut kernel: Kernel) {
    let pfn = pages::alloc_folio(Order::ZERO).expect("memory");
    kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    let (mut kernel, again) = Kernel::warm(kernel.kexec(&[pfn.raw()]));
    assert!(again.is_none());
    assert_eq!(kernel.restore_folio(pfn), Some(Order::ZERO));
}

/// A handover of one folio, with its tree's root.
fn handover() -> (Handed, PhysAddr) {
    let mut kernel = Kernel::cold(small_machine());
    let pfn = pages::alloc_folio(Order::ZERO).expect("memory");
    kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    let root = Pfn::new(kernel.nodes()[0]).phys();
    (kernel.kexec(&[pfn.raw()]), root)
}

#[test]
fn every_second_page() {
    let mut kernel = Kernel::cold(Config {
        nodes: vec![16384],
        hole: 16,
    });
    let all: Vec<Pfn> = (0..8000)
        .map(|_| pages::alloc_folio(Order::ZERO).expect("memory"))
        .collect();
    let kept: Vec<Pfn> = all.iter().copied().filter(|p| p.raw() % 2 == 0).collect();
    for &pfn in &kept {
        kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    }
    let left: Vec<u64> = kept.iter().map(|p| p.raw()).collect();
    let (mut kernel, why) = Kernel::warm(kernel.kexec(&left));
    assert!(why.is_none(), "{why:?}");
    // What was reserved for coarseness came back: only the preserved and the tree wait.
    let waiting = with(|m| m.count(Owner::Waiting));
    assert!(waiting < kept.len() as u64 + 32, "{waiting} frames wait");
    let before = owned();
    for pfn in kept {
        assert_eq!(kernel.restore_folio(pfn), Some(Order::ZERO));
        pages::free_folio(PageRange::new(pfn, 1));
    }
    assert_eq!(owned(), before);
}

#[test]
fn wrong_magic() {
    let (handed, _) = handover();
    poke(handed.fdt, 0, 0x1234_5678);
    assert!(matches!(refused(handed), Refusal::Fdt(Unusable::Header(_))));
}

#[test]
fn lying_totalsize() {
    let (handed, _) = handover();
    let magic = peek(handed.fdt, 0) & 0xffff_ffff;
    poke(handed.fdt, 0, magic | u64::from(0x10_0000u32.to_be()) << 32);
    assert!(matches!(refused(handed), Refusal::Fdt(Unusable::Header(_))));
}

#[test]
fn wrong_version() {
    let (handed, _) = handover();
    // "kho-v4" somewhere in the page becomes "kho-v5".
    let mut bytes: Vec<u8> = (0..512)
        .flat_map(|i| peek(handed.fdt, i).to_ne_bytes())
        .collect();
    let at = bytes
        .windows(6)
        .position(|w| w == b"kho-v4")
        .expect("compatible");
    bytes[at + 5] = b'5';
    for (i, word) in bytes.chunks(8).enumerate() {
        poke(
            handed.fdt,
            i,
            u64::from_ne_bytes(word.try_into().expect("8 bytes")),
        );
    }
    assert!(matches!(
        refused(handed),
        Refusal::Fdt(Unusable::Incompatible)
    ));
}

#[test]
fn fdt_outside_memory() {
    let (mut handed, _) = handover();
    handed.fdt = PhysAddr::new(1 << 40);
    assert!(matches!(refused(handed), Refusal::Unmappable(..)));
}

#[test]
fn wrong_scratch_lists() {
    for (word, value) in [(0, 1 << 40), (0, 3), (1, 5), (1, u64::MAX << 12), (2, 0)] {
        let (handed, _) = handover();
        let list = handed.list;
        let value = if word == 2 { peek(list, 0) } else { value };
        poke(list, word, value);
        assert!(
            matches!(refused(handed), Refusal::Scratch(_)),
            "word {word}"
        );
    }
    for len in [0, 8, 17, 1 << 16] {
        let (mut handed, _) = handover();
        handed.list_len = len;
        let why = refused(handed);
        assert!(matches!(why, Refusal::Scratch(_) | Refusal::Unmappable(..)));
    }
}

#[test]
fn an_empty_scratch_area_is_nowhere() {
    let middle = PhysAddr::new(0x100_0000 + 3);
    for at in [middle, PhysAddr::new(1 << 60), PhysAddr::new(u64::MAX)] {
        for spoilt in [false, true] {
            let (handed, root) = handover();
            assert_eq!(peek(handed.list, 5), 0, "the third area is empty");
            poke(handed.list, 4, at.raw());
            if spoilt {
                poke(root, used_slot(root), 1 << 40);
                assert!(matches!(refused(handed), Refusal::Node(_)));
                continue;
            }
            let (mut kernel, why) = Kernel::warm(handed);
            assert!(why.is_none(), "{at:?}: {why:?}");
            let around = PageRange::new(Pfn::new(middle.pfn().raw() - 1), 3);
            assert!(!with(|m| m.in_scratch(middle.pfn().raw())));
            kernel.out.preserve_pages(around).expect("it is no scratch");
            kernel.out.unpreserve_pages(around);
        }
    }
}

/// First slot of a node that is used.
fn used_slot(node: PhysAddr) -> usize {
    (0..512).find(|&i| peek(node, i) != 0).expect("not empty")
}

/// Makes a table entry from the addresses of the root and the scratch list.
type Spoil = fn(PhysAddr, PhysAddr) -> u64;

#[test]
fn nodes_that_cannot_be() {
    let cases: [(&str, Spoil); 5] = [
        ("outside memory", |_, _| 1 << 40),
        ("misaligned", |root, _| root.raw() + 8),
        ("in scratch", |_, list| list.raw()),
        ("the root itself", |root, _| root.raw()),
        ("not RAM", |_, _| 4096),
    ];
    for (what, value) in cases {
        let (handed, root) = handover();
        poke(root, used_slot(root), value(root, handed.list));
        let why = refused(handed);
        let named = matches!(
            why,
            Refusal::Node(_) | Refusal::NodeTwice(_) | Refusal::TooManyNodes
        );
        assert!(named, "{what}: {why:?}");
    }
}

#[test]
fn a_node_shared_by_two() {
    let (handed, root) = handover();
    let slot = used_slot(root);
    poke(root, slot + 1, peek(root, slot));
    assert!(matches!(refused(handed), Refusal::NodeTwice(_)));
}

#[test]
fn a_memory_map_that_is_none() {
    let (handed, root) = handover();
    // All entries gone: the FDT's own page is not preserved then.
    poke(root, used_slot(root), 0);
    assert!(matches!(refused(handed), Refusal::FdtNotPreserved));
}

/// A handover whose tree also has `key`.
fn with_key(key: u64) -> Handed {
    let kernel = Kernel::cold(small_machine());
    let root = Frame::at(Pfn::new(kernel.nodes()[0]).phys()).expect("own root");
    LeafCache::new()
        .insert(Tree::at(root), key, &mut BuddyNodes)
        .expect("memory");
    kernel.kexec(&[])
}

#[test]
fn keys_that_cannot_be() {
    let order = |raw| Order::new(raw).expect("legal");
    let outside = with_key(encode(Pfn::new(1 << 30), Order::ZERO));
    assert!(matches!(refused(outside), Refusal::NotRam(_)));
    let hole = with_key(encode(Pfn::new(1), Order::ZERO));
    assert!(matches!(refused(hole), Refusal::NotRam(_)));
    let all = with_key(encode(Pfn::new(0), order(52)));
    assert!(matches!(
        refused(all),
        Refusal::NotRam(_) | Refusal::Twice(_)
    ));
    let none = with_key(0);
    assert!(matches!(refused(none), Refusal::NotAKey(0)));
}

#[test]
fn preserved_twice_or_in_scratch() {
    // The FDT's own page once more, as part of a larger block.
    let kernel = Kernel::cold(small_machine());
    let fdt = kernel.out.fdt().expect("made").page().frame().phys();
    let big = Order::new(3).expect("legal");
    let block = Pfn::new(fdt.pfn().raw() >> 3 << 3);
    let root = Frame::at(Pfn::new(kernel.nodes()[0]).phys()).expect("own root");
    LeafCache::new()
        .insert(Tree::at(root), encode(block, big), &mut BuddyNodes)
        .expect("memory");
    assert!(matches!(refused(kernel.kexec(&[])), Refusal::Twice(_)));

    let kernel = Kernel::cold(small_machine());
    let root = Frame::at(Pfn::new(kernel.nodes()[0]).phys()).expect("own root");
    let scratch = (0..8192)
        .find(|&pfn| with(|m| m.in_scratch(pfn)))
        .expect("scratch");
    let key = encode(Pfn::new(scratch + 8), Order::ZERO);
    LeafCache::new()
        .insert(Tree::at(root), key, &mut BuddyNodes)
        .expect("memory");
    assert!(matches!(refused(kernel.kexec(&[])), Refusal::InScratch(_)));
}

#[test]
fn memory_that_this_kernel_has_reserved() {
    // Its own image, an initrd, a page table: reserved before the tree can be read.
    let mut kernel = Kernel::cold(small_machine());
    let order = Order::new(3).expect("legal");
    let pfn = pages::alloc_folio(order).expect("memory");
    kernel.out.preserve_block(pfn, order).expect("memory");
    let left: Vec<u64> = (pfn.raw()..pfn.raw() + order.pages()).collect();
    let handed = kernel.kexec(&left);
    let taken = PageRange::new(pfn.plus(5), 2);
    let (kernel, why) = Kernel::warm_after(handed, || early::reserve(taken).expect("RAM"));
    assert!(
        matches!(why, Some(Refusal::Reserved(at)) if at == taken.start.phys()),
        "{why:?}"
    );
    assert!(kernel.incoming.is_none());
    // Whoever reserved it still has it, and nobody else does.
    assert_eq!(with(|m| m.count(Owner::Boot)), taken.pages());
    works(kernel);
}

/// Boots from a handover of runs of pages with gaps between them, while somebody takes memory at a
/// moment without regard to what is open.
fn greedy(at: Moment, spacing: u64, take: u64) -> (Kernel, Option<Refusal>, Vec<Pfn>) {
    let mut kernel = Kernel::cold(Config {
        nodes: vec![16384],
        hole: 16,
    });
    let all: Vec<Pfn> = (0..8000)
        .map(|_| pages::alloc_folio(Order::ZERO).expect("memory"))
        .collect();
    let kept = |pfn: &Pfn| pfn.raw() % spacing < spacing - 1;
    let kept: Vec<Pfn> = all.into_iter().filter(kept).collect();
    for &pfn in &kept {
        kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    }
    let left: Vec<u64> = kept.iter().map(|pfn| pfn.raw()).collect();
    let handed = kernel.kexec(&left);
    with(|m| m.take_log());
    let (kernel, why) = Kernel::warm_while(handed, |moment| {
        if moment == at {
            early::alloc_regardless(take).expect("memory");
        }
    });
    (kernel, why, kept)
}

#[test]
fn memory_that_was_taken_before_it_was_reserved_has_one_owner() {
    // Few ranges and many, whose gaps are reserved along; a page, and more than a range has.
    for (spacing, take) in [(2000, 1), (2000, 200), (2000, 300), (2, 1), (3, 2)] {
        let (kernel, why, _) = greedy(Moment::TreeJudged, spacing, take);
        let refused = matches!(why, Some(Refusal::Taken(_)));
        assert!(refused, "{spacing}, {take}: {why:?}");
        assert!(kernel.incoming.is_none());
        // Whoever took it still has it.
        assert_eq!(with(|m| m.count(Owner::Boot)), take);
        works(kernel);
    }
}

#[test]
fn what_is_reserved_is_taken_by_nobody() {
    for (spacing, take) in [(2000, 1), (2000, 2500), (2, 1), (2, 40)] {
        let (mut kernel, why, kept) = greedy(Moment::Reserved, spacing, take);
        assert!(why.is_none(), "{spacing}, {take}: {why:?}");
        for pfn in kept {
            assert_eq!(kernel.restore_folio(pfn), Some(Order::ZERO));
        }
    }
}

#[test]
fn a_gap_that_was_taken_is_not_freed() {
    // So many ranges that gaps are reserved along with them; somebody takes one of those.
    let mut kernel = Kernel::cold(Config {
        nodes: vec![16384],
        hole: 16,
    });
    let all = (0..8000).map(|_| pages::alloc_folio(Order::ZERO).expect("memory"));
    let all: Vec<Pfn> = all.collect();
    let kept: Vec<Pfn> = all.iter().copied().filter(|p| p.raw() % 2 == 0).collect();
    for &pfn in &kept {
        kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    }
    let left: Vec<u64> = kept.iter().map(|pfn| pfn.raw()).collect();
    let gap = PageRange::new(kept[4000 / 2].plus(1), 1);
    let (mut kernel, why) = Kernel::warm_while(kernel.kexec(&left), |moment| {
        if moment == Moment::TreeJudged {
            early::reserve(gap).expect("RAM");
        }
    });
    assert!(why.is_none(), "{why:?}");
    assert_ne!(with(|m| m.owner(gap.start.raw())), Owner::Nobody);
    for pfn in kept {
        assert_eq!(kernel.restore_folio(pfn), Some(Order::ZERO));
    }
}

#[test]
fn nodes_that_this_kernel_has_reserved() {
    let (handed, root) = handover();
    let taken = PageRange::new(root.pfn(), 1);
    let (kernel, why) = Kernel::warm_after(handed, || early::reserve(taken).expect("RAM"));
    assert!(
        matches!(why, Some(Refusal::Node(at)) if at == root),
        "{why:?}"
    );
    works(kernel);

    let (handed, _) = handover();
    let taken = PageRange::new(handed.fdt.pfn(), 1);
    let (kernel, why) = Kernel::warm_after(handed, || early::reserve(taken).expect("RAM"));
    assert!(matches!(why, Some(Refusal::FdtNotPreserved)), "{why:?}");
    works(kernel);
}

#[test]
fn no_memory_to_judge_it() {
    // The list of nodes, that of blocks, that of subtrees, and the nodes with the FDT.
    for nth in 0..4 {
        let mut kernel = Kernel::cold(small_machine());
        let pfn = pages::alloc_folio(Order::ZERO).expect("memory");
        kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
        let named = kernel.out.add_subtree(c"one", pfn.phys(), 8);
        named.expect("room");
        let (kernel, why) = Kernel::warm_after(kernel.kexec(&[pfn.raw()]), || {
            with(|m| m.faults.nth = Some(m.allocations() + nth));
        });
        assert!(matches!(why, Some(Refusal::NoMemory(_))), "{nth}: {why:?}");
        assert_eq!(with(|m| m.count(Owner::Boot)), 0);
        works(kernel);
    }
}

#[test]
fn no_memory_for_the_record() {
    for nth in 0..10 {
        let kernel = Kernel::cold(small_machine());
        drop(kernel);
        let before = owned();
        let from = with(|m| m.allocations());
        with(|m| m.faults.nth = Some(from + nth));
        let made = crate::kho::outgoing::Outgoing::create(Box::leak(Box::new(List::new())));
        with(|m| m.faults.nth = None);
        if made.is_err() {
            assert_eq!(owned(), before);
        } else {
            return;
        }
    }
    panic!("it never succeeds");
}

#[test]
fn an_emptied_tree_gives_its_nodes_back() {
    let mut store = BuddyNodes;
    let _ = Kernel::cold(small_machine());
    let before = owned();
    let tree = Tree::at(store.alloc().expect("memory"));
    let mut cache = LeafCache::new();
    for i in 0..100 {
        cache
            .insert(tree, encode(Pfn::new(i << 15), Order::ZERO), &mut store)
            .expect("memory");
    }
    for i in 0..100 {
        assert!(cache.remove(
            tree,
            encode(Pfn::new(i << 15), Order::ZERO),
            Some(&mut store)
        ));
    }
    tree.destroy(&mut store);
    assert_eq!(owned(), before);
}

#[test]
fn neighbours_on_two_nodes() {
    // The last page of one node and the first of the next: one range of two kinds of memory.
    let mut kernel = Kernel::cold(small_machine());
    let all: Vec<Pfn> = std::iter::from_fn(|| pages::alloc_folio(Order::ZERO)).collect();
    let border = small_machine().nodes[0];
    let kept: Vec<Pfn> = (border - 2..border + 2).map(Pfn::new).collect();
    assert!(kept.iter().all(|pfn| all.contains(pfn)));
    for pfn in all.iter().filter(|pfn| !kept.contains(pfn)) {
        pages::free_folio(PageRange::new(*pfn, 1));
    }
    for &pfn in &kept {
        kernel.out.preserve_block(pfn, Order::ZERO).expect("memory");
    }
    let left: Vec<u64> = kept.iter().map(|pfn| pfn.raw()).collect();
    let (mut kernel, why) = Kernel::warm(kernel.kexec(&left));
    assert!(why.is_none(), "{why:?}");
    for pfn in kept {
        assert_eq!(kernel.restore_folio(pfn), Some(Order::ZERO));
    }
}

#[test]
fn the_fdt_is_not_given_away() {
    let (handed, _) = handover();
    let (mut kernel, why) = Kernel::warm(handed);
    assert!(why.is_none());
    assert_eq!(kernel.restore_folio(handed.fdt.pfn()), None);
}
