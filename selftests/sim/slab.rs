// SPDX-License-Identifier: GPL-2.0

//! Slab caches against a map of objects, over several updates; and caches that arrive damaged.

use std::collections::BTreeMap;
use std::mem::forget;

use proptest::prelude::*;

use super::carry::{despite, elsewhere, start, update};
use super::kernel::{owned, preserved, Kernel, Ledger};
use crate::kho::addr::PhysAddr;
use crate::kho::link;
use crate::kho::page::PreservedPage;
use crate::kho::slab::cache::{Cache, Sleep};
use crate::sys::error::{Error, EEXIST, EINVAL, EIO};
use crate::sys::machine::with;
use crate::sys::pages::Somewhere;
use crate::sys::Frame;

/// The word of a root with the link to the index, and those of a page of the index: its header, and
/// its first entry, for objects of which a page has no more than 64.
const FIRST: usize = 10;
const ENTRIES: usize = 2;

fn frame(at: PhysAddr) -> (Frame, usize) {
    let frame = Frame::at(at.pfn().phys()).expect("it is in a page");
    (frame, (at.raw() as usize % 4096) / 8)
}

fn words_of(size: usize) -> usize {
    size.div_ceil(8)
}

fn fill(at: PhysAddr, size: usize, with: u64) {
    let (frame, first) = frame(at);
    (0..words_of(size)).for_each(|word| frame.set_word(first + word, with + word as u64));
}

fn holds(at: PhysAddr, size: usize, what: impl Fn(u64) -> u64) -> bool {
    let (frame, first) = frame(at);
    (0..words_of(size)).all(|word| frame.word(first + word) == what(word as u64))
}

fn objects(cache: &Cache) -> Vec<PhysAddr> {
    let mut position = 0;
    std::iter::from_fn(|| {
        let (object, behind) = cache.next(position)?;
        assert!(behind > position);
        position = behind;
        Some(object.phys())
    })
    .collect()
}

fn one(cache: &Cache) -> Result<PhysAddr, Error> {
    Ok(cache.alloc(Sleep::May)?.phys())
}

/// A cache, and what it should have: address to content.
struct World {
    kernel: Option<Kernel>,
    cache: Option<Cache>,
    size: usize,
    align: usize,
    name: &'static str,
    model: BTreeMap<u64, u64>,
    count: u64,
    /// Frames that are owned without the cache.
    before: u64,
}

impl World {
    fn new(name: &'static str, size: usize, align: usize) -> Self {
        let kernel = start();
        let before = owned();
        Self {
            kernel: Some(kernel),
            cache: Some(Cache::create(name.as_bytes(), size, align).expect("memory")),
            size,
            align,
            name,
            model: BTreeMap::new(),
            count: 0,
            before,
        }
    }

    fn cache(&mut self) -> &mut Cache {
        self.cache.as_mut().expect("attached")
    }

    fn alloc(&mut self, nth: u64) {
        let cache = self.cache.as_mut().expect("attached");
        let (object, _) = despite(nth, || one(cache));
        assert_eq!(object.raw() % (self.align.max(8) as u64), 0);
        assert!(holds(object, self.size, |_| 0), "stale bytes");
        let end = object.raw() + self.size as u64;
        let near = self.model.range(..end).next_back();
        assert!(near.is_none_or(|(&at, _)| at + self.size as u64 <= object.raw()));
        self.count += 1 << 20;
        fill(object, self.size, self.count);
        self.model.insert(object.raw(), self.count);
    }

    fn free(&mut self, which: usize) {
        let chosen = self.model.keys().nth(which % self.model.len().max(1));
        let Some(&at) = chosen else {
            return;
        };
        self.model.remove(&at);
        let object = PhysAddr::new(at);
        self.cache()
            .free(Somewhere::at(object), Sleep::May)
            .expect("it is allocated");
        assert_eq!(
            self.cache().free(Somewhere::at(object), Sleep::May),
            Err(EINVAL),
            "freed twice"
        );
        let page = object.pfn().raw();
        if self.model.keys().any(|at| at >> 12 == page) {
            assert!(holds(object, self.size, |_| 0), "stale bytes");
        }
    }

    /// Everything is as the model has it, and nothing more is preserved than that takes.
    fn audit(&mut self) {
        let cache = self.cache.as_ref().expect("attached");
        assert_eq!(cache.used(), self.model.len() as u64);
        let mut found: Vec<u64> = objects(cache).iter().map(|at| at.raw()).collect();
        found.sort_unstable();
        assert!(found.iter().eq(self.model.keys()), "{found:x?}");
        for (&at, &with) in &self.model {
            assert!(cache.find(Somewhere::at(PhysAddr::new(at))).is_some());
            assert!(holds(PhysAddr::new(at), self.size, |word| with + word));
        }
        let mut pages: Vec<u64> = self.model.keys().map(|at| at >> 12).collect();
        pages.dedup();
        let kept = self.kernel.as_mut().expect("running");
        kept.take_back();
        let all = preserved(&kept.out);
        kept.lend();
        assert!(pages.iter().all(|page| all.contains(page)));
        // The FDT, the root, and a page of the index for each 56 of objects or fewer.
        let more = all.len() - pages.len();
        assert!(more <= 3 + self.count as usize, "{more} pages of its own");
        if pages.is_empty() {
            // One page that is empty, and one of the index, for each CPU.
            assert!(more <= 2 + 2 * 4, "{more} pages, none of objects");
        }
    }

    /// All pages that have nothing go.
    fn shrink(&mut self) {
        self.cache().shrink();
        let kernel = self.kernel.as_mut().expect("running");
        kernel.take_back();
        let all = preserved(&kernel.out).len();
        kernel.lend();
        let mut pages: Vec<u64> = self.model.keys().map(|at| at >> 12).collect();
        pages.dedup();
        // The FDT, the root, and the index, up to its last page that has something.
        let index = all - pages.len() - 2;
        assert_eq!(index == 0, pages.is_empty(), "{index} pages of the index");
    }

    fn update(&mut self, nth: u64) {
        let cache = self.cache.take().expect("attached");
        let handle = cache.handle();
        forget(cache);
        let subtree = std::ffi::CString::new(format!("slab-{}", self.name)).expect("no NUL");
        let kernel = self.kernel.take().expect("running");
        let (kernel, named) = update(kernel, &[&subtree], || ());
        self.kernel = Some(kernel);
        if !self.name.is_empty() {
            assert_eq!(named, [Ok(handle)]);
        }
        self.before = owned();
        let name = self.name.as_bytes();
        let attach = |name: &[u8], size, align| Cache::attach(handle, name, size, align).err();
        assert_eq!(attach(b"another", self.size, self.align), Some(EINVAL));
        assert_eq!(attach(name, self.size + 1, self.align), Some(EINVAL));
        let (cache, _) = despite(nth, || Cache::attach(handle, name, self.size, self.align));
        assert_eq!(attach(name, self.size, self.align), Some(EINVAL), "twice");
        self.cache = Some(cache);
    }

    fn finish(mut self) {
        self.audit();
        drop(self.cache.take());
        assert_eq!(owned(), self.before);
        let mut kernel = self.kernel.take().expect("running");
        kernel.take_back();
        assert_eq!(preserved(&kernel.out).len(), 1, "the FDT");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Alloc(u64),
    Many(u16),
    Free(usize),
    Few(u16),
    Cpu(usize),
    Shrink,
    Update(u64),
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..12).prop_map(Op::Alloc),
        2 => (1u16..150).prop_map(Op::Many),
        4 => any::<usize>().prop_map(Op::Free),
        2 => (1u16..150).prop_map(Op::Few),
        2 => (0usize..5).prop_map(Op::Cpu),
        1 => Just(Op::Shrink),
        1 => (0u64..40).prop_map(Op::Update),
    ]
}

fn a_type() -> impl Strategy<Value = (usize, usize)> {
    let size = prop_oneof![Just(8usize), Just(64), Just(4096), 1usize..4096];
    let align = prop_oneof![Just(0usize), Just(1), Just(64), Just(4096)];
    (size, align)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn like_a_map(
        ops in prop::collection::vec(an_op(), 1..40), (size, align) in a_type(), named in any::<bool>(),
    ) {
        let mut world = World::new(if named { "some.objects" } else { "" }, size, align);
        for op in ops {
            match op {
                Op::Alloc(nth) => world.alloc(nth),
                Op::Many(count) => (0..count).for_each(|_| world.alloc(u64::MAX / 2)),
                Op::Free(which) => world.free(which),
                Op::Few(count) => (0..count).for_each(|n| world.free(usize::from(n) * 7919)),
                // One more than there are: it has nothing of its own.
                Op::Cpu(cpu) => with(|m| m.cpu = cpu),
                Op::Shrink => world.shrink(),
                Op::Update(nth) => world.update(nth),
            }
            world.audit();
        }
        world.update(0);
        world.update(5);
        world.finish();
    }
}

#[test]
fn many_objects_come_along() {
    let mut world = World::new("many", 8, 8);
    // Three pages of the index.
    for _ in 0..70_000 {
        one(world.cache()).expect("memory");
    }
    let first = objects(world.cache());
    assert_eq!(first.len(), 70_000);
    let work = with(|m| m.work);
    world.update(u64::MAX / 2);
    let spent = with(|m| m.work) - work;
    assert_eq!(objects(world.cache()), first);
    // The whole update and four attempts to attach: what it costs follows pages, not objects.
    assert!(spent < 70_000, "{spent} words");
    for object in &first[1..] {
        world
            .cache()
            .free(Somewhere::at(*object), Sleep::May)
            .expect("it is allocated");
    }
    assert_eq!(world.cache().used(), 1);
}

#[test]
fn every_allocation_may_fail() {
    let mut failed = 0;
    for nth in 0..80 {
        let kernel = start();
        let (cache, miss) = despite(nth, || {
            let cache = Cache::create(b"x", 2000, 8)?;
            for _ in 0..9 {
                one(&cache)?;
            }
            Ok(cache)
        });
        let handle = cache.handle();
        forget(cache);
        let (_kernel, _) = update(kernel, &[], || ());
        let (cache, again) = despite(nth, || Cache::attach(handle, b"x", 2000, 8));
        assert_eq!(objects(&cache).len(), 9);
        failed += u32::from(miss) + u32::from(again);
    }
    assert!(failed >= 10, "{failed}");
}

#[test]
fn names_and_types() {
    let _kernel = start();
    let ledger = Ledger::open();
    let create = |name: &[u8], size, align| Cache::create(name, size, align);
    {
        let _first = create(b"one", 64, 64).expect("memory");
        let error = |name: &[u8], size, align| create(name, size, align).err();
        assert_eq!(error(b"one", 32, 0), Some(EEXIST));
        assert_eq!(error(b"a/b", 32, 0), Some(EINVAL));
        assert_eq!(error(&[b'a'; 49], 32, 0), Some(EINVAL));
        assert_eq!(error(b"two", 0, 0), Some(EINVAL));
        assert_eq!(error(b"two", 4097, 0), Some(EINVAL));
        assert_eq!(error(b"two", 8, 24), Some(EINVAL));
        create(&[b'a'; 48], 4096, 4096).expect("memory");
    }
    create(b"one", 32, 0).expect("its name is free again");
    ledger.close();
}

#[test]
fn what_is_no_object_is_not_freed() {
    let _kernel = start();
    let cache = Cache::create(b"", 48, 0).expect("memory");
    let other = Cache::create(b"", 48, 0).expect("memory");
    let object = one(&cache).expect("memory");
    let foreign = one(&other).expect("memory");
    let wrong = [
        object.raw() + 8,
        object.raw() + 48,
        object.raw() + 48 * 85,
        foreign.raw(),
        cache.handle().raw(),
        0,
        8192 << 12,
        u64::MAX,
    ];
    for at in wrong {
        assert_eq!(
            cache.free(Somewhere::at(PhysAddr::new(at)), Sleep::May),
            Err(EINVAL),
            "{at:#x}"
        );
    }
    assert_eq!((cache.used(), other.used()), (1, 1));
}

/// A cache that was handed over: so many objects of 128 bytes, each filled; and the next kernel.
struct Arrived {
    kernel: Kernel,
    handle: PhysAddr,
    index: PhysAddr,
    objects: Vec<PhysAddr>,
}

const SIZE: usize = 128;

fn arrived(count: usize) -> Arrived {
    arrived_with(count, start(), |_, _| ())
}

fn arrived_with(count: usize, kernel: Kernel, spoil: impl FnOnce(Frame, Frame)) -> Arrived {
    let cache = Cache::create(b"spoilt", SIZE, 0).expect("memory");
    let objects: Vec<_> = (0..count).map(|_| one(&cache).expect("memory")).collect();
    for (number, object) in objects.iter().enumerate() {
        fill(*object, SIZE, (number as u64 + 1) << 32);
    }
    let handle = cache.handle();
    let root = Frame::at(handle).expect("its root");
    let index = link::target(root.word(FIRST)).expect("its index");
    spoil(root, index);
    forget(cache);
    let (kernel, _) = update(kernel, &[], || ());
    with(|m| m.take_log());
    Arrived {
        kernel,
        handle,
        index: index.phys(),
        objects,
    }
}

impl Arrived {
    fn attach(&self) -> Result<Cache, Error> {
        Cache::attach(self.handle, b"spoilt", SIZE, 0)
    }
}

fn flip(at: PhysAddr, bit: usize) {
    with(|m| m.poke(at, bit / 64, m.peek(at, bit / 64) ^ 1 << (bit % 64)));
}

/// Each bit of the metadata, and that what is refused is so without a trace.
#[test]
fn each_bit() {
    let mut found = arrived(40);
    let (mut refused, mut other, mut nothing) = (0, 0, 0);
    let pages = [(found.handle, 14), (found.index, ENTRIES + 2 * 4)];
    for (which, (page, words)) in pages.into_iter().enumerate() {
        for bit in 0..words * 64 {
            let at = [found.handle, found.index][which];
            assert!(page == at || which < 2);
            flip(at, bit);
            let Ok(cache) = found.attach() else {
                let log = with(|m| m.take_log()).join("\n");
                assert!(
                    log.contains(" wrong: ") || log.contains("handed over at"),
                    "{log}"
                );
                flip(at, bit);
                refused += 1;
                continue;
            };
            // No more than one object is another.
            let have = objects(&cache);
            let lost = found.objects.iter().filter(|o| !have.contains(o)).count();
            let more = have.iter().filter(|o| !found.objects.contains(o)).count();
            assert!(
                lost + more <= 1,
                "word {} bit {}: {lost} {more}",
                bit / 64,
                bit % 64
            );
            match lost + more {
                0 => nothing += 1,
                _ => other += 1,
            }
            drop(cache);
            drop(found);
            found = arrived(40);
        }
    }
    found.attach().expect("nothing is wrong with it any more");
    // Three words of the root are not looked at; two pages have 32 objects each.
    assert_eq!((nothing, other), (3 * 64, 2 * 32));
    assert_eq!(refused, (14 + 10) * 64 - nothing - other);
}

#[test]
fn links_that_lead_elsewhere() {
    // With the right check for their place, as an enemy makes them: of the first page of the index,
    // of a second one, of a page of objects.
    for which in 0..3 {
        let mut attempt = 0;
        loop {
            let mut kernel = start();
            let (bad, other) = elsewhere(&mut kernel);
            let (mut why, last) = ("", attempt == bad.len() + 1);
            let found = arrived_with(40, kernel, |root, index| {
                let (name, at) = match attempt.checked_sub(bad.len()) {
                    None => bad[attempt],
                    Some(0) => ("the root", root.phys().raw()),
                    Some(_) => ("the index", index.phys().raw()),
                };
                why = name;
                let link = match Frame::at(PhysAddr::new(at)) {
                    Some(frame) => link::to(frame, [0, 1, 1][which]),
                    None => at,
                };
                match which {
                    0 => root.set_word(FIRST, link),
                    1 => index.set_word(0, link),
                    _ => index.set_word(ENTRIES + 2, link),
                }
            });
            let fine = which == 0 && why == "the index";
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
fn a_page_of_two_is_one_s() {
    // Two caches that name the same page: whoever is first has it, the other is refused.
    let kernel = start();
    let first = Cache::create(b"first", SIZE, 0).expect("memory");
    let object = one(&first).expect("memory");
    let handle = first.handle();
    forget(first);
    let found = arrived_with(1, kernel, |_, index| {
        let page = Frame::at(object.pfn().phys()).expect("its page");
        index.set_word(ENTRIES, link::to(page, 0));
    });
    let first = Cache::attach(handle, b"first", SIZE, 0).expect("all is well with it");
    assert_eq!(found.attach().err(), Some(EINVAL));
    assert_eq!(objects(&first), [object]);
}

#[test]
fn a_page_twice_is_refused() {
    let found = arrived_with(40, start(), |_, index| {
        let page = link::target(index.word(ENTRIES)).expect("the first page");
        index.set_word(ENTRIES + 2, link::to(page, 1));
    });
    assert_eq!(found.attach().err(), Some(EINVAL));
}

#[test]
fn bad_memory_is_not_taken_over() {
    let found = arrived(40);
    for page in [found.handle, found.index, found.objects[39]] {
        with(|m| m.bad.insert(page.pfn().raw()));
        assert_eq!(found.attach().err(), Some(EIO));
        with(|m| m.bad.clear());
    }
    found.attach().expect("nothing is wrong with it any more");
}

/// A kernel that stops between two words leaves a cache that is whole.
#[test]
fn a_kernel_may_stop_anywhere() {
    // A page that was just entered or just emptied, and one of the index that has nothing.
    let found = arrived_with(40, start(), |_, index| {
        index.set_word(ENTRIES + 3, 0);
    });
    let cache = found.attach().expect("it is whole");
    assert_eq!(cache.used(), 32);
    // That page was given back.
    assert!(cache.find(Somewhere::at(found.objects[39])).is_none());
    let mut kernel = found.kernel;
    kernel.take_back();
    let kept = preserved(&kernel.out);
    assert!(!kept.contains(&found.objects[39].pfn().raw()));
    assert!(kept.contains(&found.objects[0].pfn().raw()));
}

/// CPUs keep out of each other's way, and take over what others have left.
#[test]
fn each_cpu_has_pages_of_its_own() {
    let _kernel = start();
    let cache = Cache::create(b"", 1024, 0).expect("memory");
    let on = |cpu: usize| {
        with(|m| m.cpu = cpu);
        one(&cache).expect("memory")
    };
    // Four objects a page: eight, by turns, are on two pages of each CPU.
    let turns: Vec<_> = (0..16).map(|n| (n % 2, on(n % 2))).collect();
    for (cpu, object) in &turns {
        let others = turns.iter().filter(|(other, _)| other != cpu);
        assert!(others
            .into_iter()
            .all(|(_, other)| other.pfn() != object.pfn()));
    }
    // Freed by another CPU; its own one allocates there again.
    with(|m| m.cpu = 3);
    for (_, object) in turns.iter().step_by(2).take(3) {
        cache
            .free(Somewhere::at(*object), Sleep::May)
            .expect("allocated");
    }
    assert_eq!(on(0).pfn(), turns[0].1.pfn());
    // What a CPU can get without sleeping is all there is, of whichever.
    with(|m| m.cpu = 3);
    let rest: Vec<_> = std::iter::from_fn(|| cache.alloc(Sleep::MustNot).ok()).collect();
    assert_eq!((rest.len(), cache.used()), (2, 16));
}

/// Each node's CPUs allocate from pages of that node, as far as the page allocator does.
#[test]
fn nodes_are_kept_apart() {
    let _kernel = start();
    let cache = Cache::create(b"", 512, 0).expect("memory");
    let mut of = [Vec::new(), Vec::new()];
    for round in 0..200 {
        let cpu = round % 4;
        let node = cpu / 2;
        with(|m| {
            m.cpu = cpu;
            m.prefer(node);
        });
        of[node].push(one(&cache).expect("memory"));
    }
    for (node, objects) in of.iter().enumerate() {
        assert!(objects
            .iter()
            .all(|at| with(|m| m.node_of(at.pfn().raw())) == node));
    }
    // One node has no memory left: what is free on the other is better than nothing.
    cache
        .free(Somewhere::at(of[1][0]), Sleep::May)
        .expect("allocated");
    with(|m| m.cpu = 0);
    let (mut got, mut failed) = (0, false);
    for _ in 0..100 {
        with(|m| m.faults.from = Some(0));
        match one(&cache) {
            Ok(_) => got += 1,
            Err(_) => failed = true,
        }
        with(|m| m.faults.from = None);
    }
    assert!(got >= 1 && failed, "{got}");
    assert!(cache.find(Somewhere::at(of[1][0])).is_some());
}

/// Where memory is short, what is free is found wherever it is, and whatever it is that there is
/// none for.
#[test]
fn what_is_free_is_found_before_it_fails() {
    let mut failed = 0;
    for nth in 0..6 {
        let _kernel = start();
        let cache = Cache::create(b"", 2048, 0).expect("memory");
        with(|m| m.cpu = 1);
        one(&cache).expect("memory");
        // Another CPU's page of the index is full.
        with(|m| m.cpu = 0);
        for _ in 0..2 * 255 {
            one(&cache).expect("memory");
        }
        with(|m| m.faults.nth = Some(m.allocations() + nth));
        let got = one(&cache);
        assert!(got.is_ok(), "allocation {nth}");
        with(|m| m.faults.nth = None);
        let full = cache.alloc(Sleep::MustNot).is_err();
        failed += u32::from(full);
        assert_eq!(cache.used(), 512 + u64::from(!full));
    }
    assert!(failed >= 3, "{failed} took the last one");
}

/// What is taken out is there once: looked at and freed in one step.
#[test]
fn what_is_taken_out_is_taken_once() {
    let _kernel = start();
    let cache = Cache::create(b"", 64, 0).expect("memory");
    let object = one(&cache).expect("memory");
    fill(object, 64, 7);
    let mut seen = 0;
    let at = Somewhere::at(object);
    cache
        .take(at, |found| seen = found.page.word(found.offset / 8))
        .expect("allocated");
    assert_eq!((seen, cache.used()), (7, 0));
    assert_eq!(cache.take(at, |_| seen = 0), Err(EINVAL));
    assert_eq!(seen, 7);
    cache.tidy(at);
    assert!(holds(object, 64, |_| 0), "stale bytes");
}

/// Whoever allocates and frees one object by turns gets no page each time.
#[test]
fn one_page_stays_until_it_is_asked_for() {
    let mut kernel = start();
    let cache = Cache::create(b"", 64, 0).expect("memory");
    let object = one(&cache).expect("memory");
    cache
        .free(Somewhere::at(object), Sleep::May)
        .expect("allocated");
    let before = with(|m| m.allocations());
    for _ in 0..10 {
        let object = one(&cache).expect("memory");
        cache
            .free(Somewhere::at(object), Sleep::May)
            .expect("allocated");
    }
    assert_eq!(with(|m| m.allocations()), before);
    // Another page, and then all go: it has one again.
    cache.shrink();
    let again = |_| {
        let object = one(&cache).expect("memory");
        cache
            .free(Somewhere::at(object), Sleep::May)
            .expect("allocated");
    };
    again(());
    let before = with(|m| m.allocations());
    (0..10).for_each(|_| again(()));
    assert_eq!(with(|m| m.allocations()), before);
    cache.shrink();
    assert_eq!(cache.used(), 0);
    kernel.take_back();
    assert_eq!(preserved(&kernel.out).len(), 2, "the FDT and the root");
}

#[test]
fn an_index_may_have_nothing() {
    let kernel = start();
    let cache = Cache::create(b"none", SIZE, 0).expect("memory");
    let page = PreservedPage::new().expect("memory").keep();
    page.set_word(1, crate::kho::slab::seal(cache.handle(), page.phys(), 0));
    let root = Frame::at(cache.handle()).expect("its root");
    root.set_word(FIRST, link::to(page, 0));
    let handle = cache.handle();
    forget(cache);
    let (_kernel, _) = update(kernel, &[], || ());
    let cache = Cache::attach(handle, b"none", SIZE, 0).expect("it is whole");
    assert_eq!(objects(&cache), []);
    let object = one(&cache).expect("memory");
    cache
        .free(Somewhere::at(object), Sleep::May)
        .expect("it is allocated");
}
