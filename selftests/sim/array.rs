// SPDX-License-Identifier: GPL-2.0

//! Sparse arrays against a map, over several updates; and arrays that arrive damaged.

use std::collections::BTreeMap;
use std::mem::forget;
use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::carry::{despite, elsewhere, start, update};
use super::kernel::{owned, preserved, Kernel};
use crate::kho::addr::PhysAddr;
use crate::kho::array::Array;
use crate::kho::link;
use crate::sys::error::{Error, EINVAL, EIO};
use crate::sys::machine::with;
use crate::sys::Frame;

/// The first word of a root with a tree, and that of a leaf which says what is there.
const TREES: usize = 10;
const PRESENT: usize = 504;

/// The values in a range, in order.
fn range(array: &mut Array, range: RangeInclusive<u64>) -> impl Iterator<Item = (u64, u64)> + '_ {
    let (mut from, last) = (Some(*range.start()), *range.end());
    std::iter::from_fn(move || {
        let found = array.next(from?).filter(|(at, _)| *at <= last);
        from = found.and_then(|(at, _)| at.checked_add(1));
        found
    })
}

fn all(array: &mut Array) -> Vec<(u64, u64)> {
    range(array, 0..=u64::MAX).collect()
}

/// An array, and what it should have.
struct World {
    kernel: Option<Kernel>,
    array: Option<Array>,
    name: &'static str,
    model: BTreeMap<u64, u64>,
    before: u64,
}

impl World {
    fn new(name: &'static str) -> Self {
        let kernel = start();
        let before = owned();
        Self {
            kernel: Some(kernel),
            array: Some(Array::create(name.as_bytes()).expect("memory")),
            name,
            model: BTreeMap::new(),
            before,
        }
    }

    fn array(&mut self) -> &mut Array {
        self.array.as_mut().expect("attached")
    }

    fn set(&mut self, at: u64, value: u64, nth: u64) {
        let array = self.array.as_mut().expect("attached");
        let (old, _) = despite(nth, || array.set(at, value));
        assert_eq!(old, self.model.insert(at, value));
    }

    fn clear(&mut self, at: u64) {
        let old = self.model.remove(&at);
        assert_eq!(self.array().clear(at), old);
        assert_eq!(self.array().clear(at), None);
    }

    fn clear_range(&mut self, range: RangeInclusive<u64>) {
        self.model.retain(|at, _| !range.contains(at));
        self.array().clear_range(range);
    }

    fn audit(&mut self) {
        let array = self.array.as_mut().expect("attached");
        assert_eq!(array.len(), self.model.len() as u64);
        assert!(all(array).into_iter().eq(self.model.clone()));
        for (&at, &value) in &self.model {
            assert_eq!(array.get(at), Some(value));
            for near in [at.wrapping_sub(1), at.wrapping_add(1), at ^ 1 << 60] {
                assert_eq!(array.get(near), self.model.get(&near).copied());
            }
            let next = self.model.range(at..).nth(1);
            let found = at.checked_add(1).and_then(|from| array.next(from));
            assert_eq!(found, next.map(|(at, value)| (*at, *value)));
        }
        // The root, a leaf for each group of neighbours, and no table without a leaf.
        let mut leaves: Vec<u64> = self.model.keys().map(|at| at / 504).collect();
        leaves.dedup();
        let kernel = self.kernel.as_mut().expect("running");
        kernel.take_back();
        let pages = preserved(&kernel.out).len() - 2;
        kernel.lend();
        assert!(
            (leaves.len()..=leaves.len() * 8).contains(&pages),
            "{pages}"
        );
    }

    fn update(&mut self, nth: u64) {
        let array = self.array.take().expect("attached");
        let handle = array.handle();
        forget(array);
        let subtree = std::ffi::CString::new(format!("array-{}", self.name)).expect("no NUL");
        let kernel = self.kernel.take().expect("running");
        let (kernel, named) = update(kernel, &[&subtree], || ());
        self.kernel = Some(kernel);
        if !self.name.is_empty() {
            assert_eq!(named, [Ok(handle)]);
        }
        self.before = owned();
        assert_eq!(Array::attach(handle, b"another").err(), Some(EINVAL));
        let name = self.name.as_bytes();
        let (array, _) = despite(nth, || Array::attach(handle, name));
        assert_eq!(Array::attach(handle, name).err(), Some(EINVAL), "twice");
        self.array = Some(array);
    }

    fn finish(mut self) {
        self.audit();
        drop(self.array.take());
        assert_eq!(owned(), self.before);
        let mut kernel = self.kernel.take().expect("running");
        kernel.take_back();
        assert_eq!(preserved(&kernel.out).len(), 1, "the FDT");
    }
}

/// Indexes near each other, near where leaves and trees begin, and anywhere.
fn an_index() -> impl Strategy<Value = u64> {
    let leaf = (0u32..56, 0u64..3, 0u64..504)
        .prop_map(|(bits, more, slot)| ((1u64 << bits) + more).wrapping_mul(504) + slot);
    prop_oneof![
        4 => 0u64..2000,
        2 => leaf,
        1 => any::<u64>(),
        1 => (0u64..600).prop_map(|back| u64::MAX - back),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Set(u64, u64, u64),
    Run(u64, u16),
    Clear(u64),
    ClearOne(usize),
    ClearRange(u64, u64),
    Update(u64),
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (an_index(), any::<u64>(), 0u64..14).prop_map(|(at, value, nth)| Op::Set(at, value, nth)),
        1 => (an_index(), 1u16..600).prop_map(|(at, count)| Op::Run(at, count)),
        1 => an_index().prop_map(Op::Clear),
        4 => any::<usize>().prop_map(Op::ClearOne),
        1 => (an_index(), an_index()).prop_map(|(one, other)| Op::ClearRange(one, other)),
        1 => (0u64..40).prop_map(Op::Update),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn like_a_map(ops in prop::collection::vec(an_op(), 1..40), named in any::<bool>()) {
        let mut world = World::new(if named { "some.values" } else { "" });
        for op in ops {
            match op {
                Op::Set(at, value, nth) => world.set(at, value, nth),
                Op::Run(at, count) => {
                    for more in 0..u64::from(count) {
                        world.set(at.wrapping_add(more), more, u64::MAX / 2);
                    }
                }
                Op::Clear(at) => world.clear(at),
                Op::ClearOne(which) => {
                    let chosen = world.model.keys().nth(which % world.model.len().max(1));
                    if let Some(&at) = chosen {
                        world.clear(at);
                    }
                }
                Op::ClearRange(one, other) => world.clear_range(one.min(other)..=one.max(other)),
                Op::Update(nth) => world.update(nth),
            }
            world.audit();
        }
        world.update(0);
        world.update(5);
        world.finish();
    }

    #[test]
    fn ranges(
        values in prop::collection::btree_map(an_index(), any::<u64>(), 0..60),
        one in an_index(), other in an_index(),
    ) {
        let mut world = World::new("");
        for (&at, &value) in &values {
            world.set(at, value, u64::MAX / 2);
        }
        let (from, to) = (one.min(other), one.max(other));
        let found: Vec<_> = range(world.array(), from..=to).collect();
        let wanted: Vec<_> = values.range(from..=to).map(|(at, value)| (*at, *value)).collect();
        assert_eq!(found, wanted);
        world.array().clear_range(from..=to);
        assert_eq!(range(world.array(), from..=to).count(), 0);
    }
}

#[test]
fn many_values_come_along() {
    let mut world = World::new("many");
    for at in 0..300_000u64 {
        world.array().set(at, at * 3).expect("memory");
    }
    let before = with(|m| m.work);
    let sum: u64 = range(world.array(), 0..=u64::MAX)
        .map(|(at, value)| at ^ value)
        .sum();
    let walked = with(|m| m.work) - before;
    assert_eq!(sum, (0..300_000u64).map(|at| at ^ (at * 3)).sum());
    assert!(walked < 300_000 * 4, "{walked} words");
    let array = world.array.take().expect("attached");
    let handle = array.handle();
    forget(array);
    let (kernel, _) = update(
        world.kernel.take().expect("running"),
        &[c"array-many"],
        || (),
    );
    let before = with(|m| m.work);
    let mut array = Array::attach(handle, b"many").expect("it is whole");
    let attached = with(|m| m.work) - before;
    assert!(attached < 300_000 / 4, "{attached} words");
    assert_eq!((array.len(), array.get(299_999)), (300_000, Some(899_997)));
    let before = with(|m| m.work);
    array.clear_range(0..=u64::MAX);
    let cleared = with(|m| m.work) - before;
    assert!(cleared < 300_000 * 20, "{cleared} words");
    assert_eq!(array.len(), 0);
    drop((array, kernel));
}

#[test]
fn every_allocation_may_fail() {
    let mut failed = 0;
    for nth in 0..60 {
        let kernel = start();
        let (array, miss) = despite(nth, || {
            let mut array = Array::create(b"x")?;
            for at in [0, 600, 1 << 30, u64::MAX] {
                array.set(at, at)?;
            }
            Ok(array)
        });
        let handle = array.handle();
        forget(array);
        let (_kernel, _) = update(kernel, &[], || ());
        let (array, again) = despite(nth, || Array::attach(handle, b"x"));
        assert_eq!(array.len(), 4);
        failed += u32::from(miss) + u32::from(again);
    }
    assert!(failed >= 10, "{failed}");
}

/// An array that was handed over, and the next kernel.
struct Arrived {
    kernel: Kernel,
    handle: PhysAddr,
    table: PhysAddr,
    leaf: PhysAddr,
}

const VALUES: [(u64, u64); 4] = [(3, 33), (504, 5), (504 * 2 + 63, 0), (504 * 600, u64::MAX)];

fn arrived(kernel: Kernel, spoil: impl FnOnce(Frame, Frame, Frame)) -> Arrived {
    let mut array = Array::create(b"spoilt").expect("memory");
    for (at, value) in VALUES {
        array.set(at, value).expect("memory");
    }
    let handle = array.handle();
    let root = Frame::at(handle).expect("its root");
    let table = link::target(root.word(TREES + 1)).expect("a table of one level");
    let leaf = link::target(table.word(2)).expect("the third leaf");
    spoil(root, table, leaf);
    forget(array);
    let (kernel, _) = update(kernel, &[], || ());
    with(|m| m.take_log());
    Arrived {
        kernel,
        handle,
        table: table.phys(),
        leaf: leaf.phys(),
    }
}

impl Arrived {
    fn attach(&self) -> Result<Array, Error> {
        Array::attach(self.handle, b"spoilt")
    }
}

#[test]
fn each_bit() {
    let mut found = arrived(start(), |_, _, _| ());
    let (mut refused, mut other, mut nothing) = (0, 0, 0);
    let words: [(usize, Vec<usize>); 3] = [
        (0, (0..20).collect()),
        (1, (0..6).chain([511]).collect()),
        (2, [0, 62, 63, 64].into_iter().chain(PRESENT..512).collect()),
    ];
    for (which, words) in words {
        for (word, bit) in words
            .into_iter()
            .flat_map(|word| (0..64).map(move |bit| (word, bit)))
        {
            let at = |found: &Arrived| [found.handle, found.table, found.leaf][which];
            let flip = |found: &Arrived| {
                with(|m| m.poke(at(found), word, m.peek(at(found), word) ^ 1 << bit));
            };
            flip(&found);
            let Ok(mut array) = found.attach() else {
                let log = with(|m| m.take_log()).join("\n");
                assert!(
                    log.contains("is damaged") || log.contains("handed over at"),
                    "{log}"
                );
                flip(&found);
                refused += 1;
                continue;
            };
            let have = all(&mut array);
            let lost = VALUES.iter().filter(|value| !have.contains(value)).count();
            let more = have.iter().filter(|value| !VALUES.contains(value)).count();
            let same = VALUES
                .iter()
                .filter(|(at, _)| array.get(*at).is_some())
                .count();
            assert!(lost <= 1 && more <= 1 && same >= 3, "{which} {word} {bit}");
            match lost + more {
                0 => nothing += 1,
                _ => other += 1,
            }
            drop(array);
            drop(found);
            found = arrived(start(), |_, _, _| ());
        }
    }
    found.attach().expect("nothing is wrong with it any more");
    // Not looked at: two words of the root, three values that are not there. Another: one value,
    // and what is there of a leaf.
    assert_eq!((nothing, other), ((2 + 3) * 64, 64 + 504));
    assert_eq!(refused, (20 + 7 + 12) * 64 - nothing - other);
}

#[test]
fn links_that_lead_elsewhere() {
    // With the right check for their place, as an enemy makes them: of a tree, of a leaf.
    for which in 0..2 {
        let mut attempt = 0;
        loop {
            let mut kernel = start();
            let (bad, other) = elsewhere(&mut kernel);
            let (mut why, last) = ("", attempt == bad.len() + 2);
            let found = arrived(kernel, |root, table, leaf| {
                let (name, at) = match attempt.checked_sub(bad.len()) {
                    None => bad[attempt],
                    Some(0) => ("the root", root.phys().raw()),
                    Some(1) => ("the table", table.phys().raw()),
                    Some(_) => ("another leaf", leaf.phys().raw()),
                };
                why = name;
                let level = [1u64, 0][which];
                let place = level << 60 ^ [0, 1][which];
                let link = match Frame::at(PhysAddr::new(at)) {
                    Some(frame) => link::to(frame, place),
                    None => at,
                };
                match which {
                    0 => root.set_word(TREES + 1, link),
                    _ => table.set_word(1, link),
                }
            });
            let fine = which == 0 && why == "the table";
            let attached = found.attach().err();
            assert_eq!(attached, (!fine).then_some(EINVAL), "{which} {why}");
            let mut kernel = found.kernel;
            kernel.take_back();
            assert!(kernel.restore_folio(other.pfn()).is_some(), "{which} {why}");
            if last {
                break;
            }
            attempt += 1;
        }
    }
}

#[test]
fn a_value_where_none_can_be() {
    // Below the first slot of a tree's top.
    let found = arrived(start(), |_, table, leaf| {
        table.set_word(0, link::to(leaf, 0))
    });
    assert_eq!(found.attach().err(), Some(EINVAL));
}

#[test]
fn a_value_behind_the_last() {
    let kernel = start();
    let mut array = Array::create(b"spoilt").expect("memory");
    array.set(u64::MAX, 1).expect("memory");
    let mut node = Frame::at(array.handle()).expect("its root");
    let mut word = TREES + 7;
    for _ in 0..8 {
        node = link::target(node.word(word)).expect("the way to a leaf");
        word = (0..512).find(|word| node.word(*word) != 0).expect("one");
    }
    let slot = (u64::MAX % 504) as usize + 1;
    let present = PRESENT + slot / 64;
    assert_ne!(
        node.word(present.min(511)) | node.word(PRESENT + (slot - 1) / 64),
        0
    );
    node.set_word(present, node.word(present) | 1 << (slot % 64));
    let handle = array.handle();
    forget(array);
    let (_kernel, _) = update(kernel, &[], || ());
    assert_eq!(Array::attach(handle, b"spoilt").err(), Some(EINVAL));
}

#[test]
fn bad_memory_is_not_taken_over() {
    let found = arrived(start(), |_, _, _| ());
    for page in [found.handle, found.table, found.leaf] {
        with(|m| m.bad.insert(page.pfn().raw()));
        assert_eq!(found.attach().err(), Some(EIO));
        with(|m| m.bad.clear());
    }
    found.attach().expect("nothing is wrong with it any more");
}

#[test]
fn a_kernel_may_stop_anywhere() {
    // A leaf that was emptied and is still there, with a value that is still written.
    let found = arrived(start(), |_, _, leaf| leaf.set_word(PRESENT, 0));
    let mut array = found.attach().expect("it is whole");
    assert_eq!(array.len(), 3);
    let left: Vec<u64> = all(&mut array).into_iter().map(|(at, _)| at).collect();
    assert_eq!(left, [3, 504, 504 * 600]);
    assert_eq!(array.set(504 * 2 + 1, 7), Ok(None));
    assert_eq!(array.get(504 * 2 + 1), Some(7));
}
