// SPDX-License-Identifier: GPL-2.0

//! The radix tree against a set of keys.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::kernel::owned;
use crate::kho::addr::{Order, PageRange, Pfn};
use crate::kho::key::{self, Run};
use crate::kho::merge::{Fault, Merge, ORDERS};
use crate::kho::tree::{LeafCache, NodeStore, Tree};
use crate::sys::machine::{install, with, Config};
use crate::sys::pages::BuddyNodes;

fn empty() -> Tree {
    install(Config {
        nodes: vec![4096],
        hole: 16,
    });
    Tree::at(BuddyNodes.alloc().expect("a new machine has memory"))
}

fn keys(tree: Tree) -> BTreeSet<u64> {
    tree.runs(0, u64::MAX)
        .flat_map(|run| run.first..run.end())
        .collect()
}

/// Keys near leaf boundaries and in several orders.
fn a_run() -> impl Strategy<Value = Run> {
    let base = prop_oneof![
        Just(1u64 << 52),
        Just(1u64 << 43),
        Just((1u64 << 52) + 32768 * 3),
        Just((1u64 << 52) + (1 << 30)),
    ];
    let len = prop_oneof![4 => 1u64..200, 1 => 30_000u64..70_000];
    (base, 0u64..70_000, len).prop_map(|(base, skip, len)| Run {
        first: base + skip,
        len,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn like_a_set(ops in prop::collection::vec((any::<bool>(), a_run()), 1..20)) {
        let tree = empty();
        let mut model = BTreeSet::new();
        for (insert, run) in ops {
            if insert {
                tree.insert(run, &mut BuddyNodes).expect("memory suffices");
                model.extend(run.first..run.end());
            } else {
                let removed = tree.remove(run, &mut BuddyNodes);
                let before = model.len();
                model.retain(|key| !(run.first..run.end()).contains(key));
                prop_assert_eq!(removed, (before - model.len()) as u64);
            }
            prop_assert_eq!(&keys(tree), &model);
        }
        // Runs are maximal.
        let runs: Vec<Run> = tree.runs(0, u64::MAX).collect();
        prop_assert!(runs.windows(2).all(|w| w[0].end() < w[1].first));
        // Empty again, nothing but the root is left.
        tree.remove(Run { first: 0, len: 1 << 36 }, &mut BuddyNodes);
        for run in runs {
            tree.remove(run, &mut BuddyNodes);
        }
        prop_assert_eq!(owned(), 1);
    }

    #[test]
    fn single_keys_through_the_cache(ops in prop::collection::vec((any::<bool>(), a_run()), 1..60)) {
        let tree = empty();
        let mut cache = LeafCache::new();
        let mut model = BTreeSet::new();
        for (insert, Run { first: key, .. }) in ops {
            if insert {
                cache.insert(tree, key, &mut BuddyNodes).expect("memory suffices");
                model.insert(key);
            } else {
                let removed = cache.remove(tree, key, Some(&mut BuddyNodes));
                prop_assert_eq!(removed, model.remove(&key));
            }
            prop_assert_eq!(cache.contains(tree, key), model.contains(&key));
        }
        prop_assert_eq!(keys(tree), model);
    }

    #[test]
    fn out_of_memory_leaves_it_as_it_was(first in a_run(), second in a_run(), nth in 0u64..12) {
        let tree = empty();
        tree.insert(first, &mut BuddyNodes).expect("memory suffices");
        let (before, frames) = (keys(tree), owned());
        let faults = with(|m| m.allocations() + nth);
        with(|m| m.faults.nth = Some(faults));
        match tree.insert(second, &mut BuddyNodes) {
            Ok(()) => {}
            Err(_) => {
                prop_assert_eq!(keys(tree), before);
                prop_assert_eq!(owned(), frames);
            }
        }
        with(|m| m.faults.nth = None);
        tree.insert(second, &mut BuddyNodes).expect("memory suffices");
        let after = keys(tree);
        prop_assert!((second.first..second.end()).all(|key| after.contains(&key)));
    }

    #[test]
    fn merged_ranges_are_the_preserved_frames(
        blocks in prop::collection::vec((0u32..6, 0u64..400), 0..60),
    ) {
        let tree = empty();
        let mut frames = BTreeSet::new();
        for (raw, place) in blocks {
            let order = Order::new(raw).expect("small");
            let range = PageRange::new(Pfn::new(place << raw), order.pages());
            let mut pages = range.start.raw()..range.end.raw();
            if pages.any(|pfn| frames.contains(&pfn)) {
                continue;
            }
            frames.extend(range.start.raw()..range.end.raw());
            let run = Run::new(range.start, order, 1).expect("aligned");
            tree.insert(run, &mut BuddyNodes).expect("memory suffices");
        }
        let mut heads = [const { None }; ORDERS];
        let mut merge = Merge::new(&mut heads, tree, &[]);
        let ranges: Vec<PageRange> = merge.by_ref().collect();
        prop_assert_eq!(merge.fault(), None);
        let merged: BTreeSet<u64> =
            ranges.iter().flat_map(|r| r.start.raw()..r.end.raw()).collect();
        prop_assert_eq!(merged, frames);
        prop_assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
    }
}

#[test]
fn a_frame_listed_twice_is_found() {
    let tree = empty();
    let big = Order::new(4).expect("small");
    tree.insert(
        Run::new(Pfn::new(64), big, 2).expect("aligned"),
        &mut BuddyNodes,
    )
    .expect("memory suffices");
    let page = Run::new(Pfn::new(70), Order::ZERO, 1).expect("aligned");
    tree.insert(page, &mut BuddyNodes).expect("memory suffices");
    let mut heads = [const { None }; ORDERS];
    let mut merge = Merge::new(&mut heads, tree, &[]);
    while merge.next().is_some() {}
    assert_eq!(merge.fault(), Some(Fault::Overlap(Pfn::new(70))));

    // The same for the tree's own nodes.
    tree.remove(page, &mut BuddyNodes);
    let mut heads = [const { None }; ORDERS];
    let mut merge = Merge::new(&mut heads, tree, &[3, 95]);
    while merge.next().is_some() {}
    assert_eq!(merge.fault(), Some(Fault::Overlap(Pfn::new(95))));
}

#[test]
fn numbers_that_are_no_keys() {
    let tree = empty();
    let wide = Run {
        first: 1 << key::KEY_BITS,
        len: 1,
    };
    assert!(tree.insert(wide, &mut BuddyNodes).is_err());
    let none = Run { first: 0, len: 1 };
    tree.insert(none, &mut BuddyNodes)
        .expect("the C API takes any number");
    let mut heads = [const { None }; ORDERS];
    let mut merge = Merge::new(&mut heads, tree, &[]);
    assert!(merge.next().is_none());
    assert_eq!(merge.fault(), Some(Fault::NotAKey(0)));
}

#[test]
fn layout_is_mainlines() {
    // Order 0, frame 0x12345: root slot 2 (bit 52 of bits 59:51), then zeros, then leaf 2, bit
    // 0x2345 (ABI header).
    let tree = empty();
    let run = Run::new(Pfn::new(0x12345), Order::ZERO, 1).expect("aligned");
    tree.insert(run, &mut BuddyNodes).expect("memory suffices");
    let mut node = tree.root();
    for slot in [2usize, 0, 0, 0, 2] {
        let entries: Vec<usize> = (0..512).filter(|&i| node.word(i) != 0).collect();
        assert_eq!(entries, [slot]);
        node = crate::sys::Frame::at(crate::kho::addr::PhysAddr::new(node.word(slot)))
            .expect("a node");
    }
    assert_eq!(node.word(0x2345 / 64), 1 << (0x2345 % 64));
}
