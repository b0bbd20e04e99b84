// SPDX-License-Identifier: GPL-2.0

//! Handles in records to slab caches, their objects, arrays, and memory: all bytes are one or a
//! fault, and each leads to what it was made for, or nowhere.

use std::mem::forget;

use proptest::prelude::*;

use super::super::carry::{start, update};
use crate::kho::addr::PhysAddr;
use crate::kho::array::Array;
use crate::kho::slab::cache::Cache as SlabCache;
use crate::kho::slab::cache::Sleep;
use crate::sys::error::EINVAL;
use crate::sys::handover_struct;
use crate::sys::pages::Somewhere;
use crate::sys::record::{Cache, Fault, Handover, Item, Memory, Ref, Slot, Values, Wire};

struct Job;

impl Item for Job {
    const NAME: &'static str = "tests-job-v1";
}

struct Task;

impl Item for Task {
    const NAME: &'static str = "tests-task-v1";
}

handover_struct! {
    #[derive(Debug, PartialEq)]
    struct Queue("tests-queue") version 1 layouts [0xfa7c204b] {
        jobs: Ref<Cache<Job>>,
        first: Option<Ref<Slot<Job>>>,
        order: Ref<Values>,
        page: Option<Ref<Memory<Job>>>,
    }
}

const SIZE: usize = 64;
const ALIGN: usize = 8;

#[test]
fn each_leads_to_what_it_was_made_for() {
    let kernel = start();
    let cache = SlabCache::create(b"", SIZE, ALIGN).expect("memory");
    let mut array = Array::create(b"").expect("memory");
    let first = cache.alloc(Sleep::May).expect("memory").phys();
    array.set(3, first.raw()).expect("memory");
    let queue = Queue {
        jobs: Ref::__new(cache.handle().raw(), 0),
        first: Some(Ref::__new(first.raw(), 0)),
        order: Ref::__new(array.handle().raw(), 0),
        page: None,
    };
    let bytes = queue.encode(1).expect("all is said");
    forget((cache, array));
    let (kernel, _) = update(kernel, &[], || ());

    let queue = Queue::decode(&bytes).expect("it was written so");
    let (jobs, _) = queue.jobs.__into_parts();
    let (order, _) = queue.order.__into_parts();
    let (first, _) = queue.first.expect("a handle").__into_parts();
    let attach = |at| SlabCache::attach(PhysAddr::new(at), b"", SIZE, ALIGN);
    // With the addresses of each other.
    assert_eq!(attach(order).err(), Some(EINVAL));
    assert_eq!(attach(first).err(), Some(EINVAL));
    assert!(Array::attach(PhysAddr::new(jobs), b"").is_err());
    let cache = attach(jobs).expect("it was handed over");
    // The same bytes again.
    assert!(attach(jobs).is_err());
    assert!(cache.find(Somewhere::at(PhysAddr::new(first))).is_some());
    for forged in [jobs, order, first + 1, first + 64, 0, u64::MAX] {
        assert!(
            cache.find(Somewhere::at(PhysAddr::new(forged))).is_none(),
            "{forged:#x}"
        );
    }
    let mut array = Array::attach(PhysAddr::new(order), b"").expect("it too");
    assert!(Array::attach(PhysAddr::new(order), b"").is_err());
    assert_eq!(array.get(3), Some(first));
    drop((cache, array, kernel));
}

/// What a handle begins with, and that its rest is as said: no machine and no compiler changes it.
#[test]
fn the_bytes_are_pinned() {
    fn bytes<T: Wire>(handle: T) -> ([u8; 4], bool) {
        let mut bytes = [0xee; 24];
        handle.put(&mut bytes).expect("there is room");
        let [a, b, c, d, rest @ ..] = bytes;
        let expected = [
            0, 0, 0, 0, 0, 0x30, 2, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
        ];
        ([a, b, c, d], rest == expected)
    }
    const AT: u64 = 0x23000;
    let all = [
        bytes(Ref::<Cache<Job>>::__new(AT, 9)),
        bytes(Ref::<Slot<Job>>::__new(AT, 9)),
        bytes(Ref::<Memory<Job>>::__new(AT, 9)),
        bytes(Ref::<Values>::__new(AT, 9)),
    ];
    // FNV-1a, computed elsewhere.
    let tags = [0x4a8f2900_u32, 0x46e31d3d, 0x7d0e3d71, 0xef9892d2];
    assert_eq!(all, tags.map(|tag| (tag.to_le_bytes(), true)));
    let names = [
        <Ref<Cache<Job>> as Wire>::NAME,
        <Ref<Slot<Job>> as Wire>::NAME,
        <Ref<Memory<Job>> as Wire>::NAME,
        <Ref<Values> as Wire>::NAME,
    ];
    assert_eq!(
        names.each_ref().map(|name| name.as_str()),
        [
            "slab(tests-job-v1)",
            "object(tests-job-v1)",
            "memory(tests-job-v1)",
            "array"
        ]
    );
}

/// A handle to one kind of thing, or to one struct, is none to another.
#[test]
fn kinds_and_names_are_not_taken_for_each_other() {
    fn write<T: Wire>(handle: T) -> [u8; 24] {
        let mut bytes = [0; 24];
        handle.put(&mut bytes).expect("there is room");
        bytes
    }
    let handles = [
        write(Ref::<Cache<Job>>::__new(4096, 0)),
        write(Ref::<Slot<Job>>::__new(4096, 0)),
        write(Ref::<Memory<Job>>::__new(4096, 0)),
        write(Ref::<Cache<Task>>::__new(4096, 0)),
        write(Ref::<Slot<Task>>::__new(4096, 0)),
        write(Ref::<Memory<Task>>::__new(4096, 0)),
        write(Ref::<Values>::__new(4096, 0)),
    ];
    for (number, bytes) in handles.iter().enumerate() {
        let read = [
            Ref::<Cache<Job>>::get(bytes).is_some(),
            Ref::<Slot<Job>>::get(bytes).is_some(),
            Ref::<Memory<Job>>::get(bytes).is_some(),
            Ref::<Cache<Task>>::get(bytes).is_some(),
            Ref::<Slot<Task>>::get(bytes).is_some(),
            Ref::<Memory<Task>>::get(bytes).is_some(),
            Ref::<Values>::get(bytes).is_some(),
        ];
        for (other, read) in read.into_iter().enumerate() {
            assert_eq!(read, number == other, "{number} {other}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_a_fault(
        noise in proptest::collection::vec((0..200usize, any::<u8>()), 0..6),
        addresses: [u64; 4],
        some: [bool; 2],
        len in 0..200usize,
    ) {
        let queue = Queue {
            jobs: Ref::__new(addresses[0], 0),
            first: some[0].then(|| Ref::__new(addresses[1], 0)),
            order: Ref::__new(addresses[2], 0),
            page: some[1].then(|| Ref::__new(addresses[3], 0)),
        };
        let mut bytes = queue.encode(1).expect("all is said");
        prop_assert_eq!(Queue::decode(&bytes), Ok(queue));
        for (at, byte) in noise {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        match Queue::decode(&bytes) {
            // What is a value is the only way to write it.
            Ok(queue) => prop_assert_eq!(queue.encode(1).expect("all is said"), bytes),
            Err(fault) => prop_assert_ne!(fault, Fault::Unsaid("")),
        }
        let cut = &bytes[..len.min(bytes.len() - 1)];
        prop_assert!(Queue::decode(cut).is_err());
    }
}
