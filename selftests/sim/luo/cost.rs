// SPDX-License-Identifier: GPL-2.0

//! Ten times the sessions, or files, cost about ten times the work: counted in words of memory read
//! and written, and allocations. What walks through a list of the kernel's own is not seen here;
//! the benchmark sees it.

use super::lab::a_file;
use super::world::World;
use crate::sys::machine::{with, Config};

/// Times the work, at most: a hundred would be quadratic.
const MOST: u64 = 12;

fn world() -> World {
    World::cold_with(Config {
        nodes: vec![1 << 16],
        hole: 256,
    })
}

/// What was counted since the last call.
fn work() -> u64 {
    with(|m| std::mem::take(&mut m.work))
}

/// What creating, handing over and receiving so many sessions costs, each step for itself.
fn sessions(count: usize) -> [u64; 4] {
    let world = world();
    work();
    for n in 0..count {
        std::mem::forget(world.create(&format!("session {n}")).expect("memory"));
    }
    let created = work();
    world.luo.reboot().expect("nothing fails");
    let written = work();
    let handed = world.kexec();
    work();
    let world = World::warm(handed);
    let read = work();
    for n in 0..count {
        world.close_incoming(world.open(&format!("session {n}")).expect("it came"));
    }
    [created, written, read, work()]
}

/// The same with files in one session.
fn files(count: u64) -> [u64; 4] {
    let world = world();
    let session = world.create("one").expect("memory");
    let all: Vec<_> = (0..count)
        .map(|n| a_file(0, n * 3).expect("memory"))
        .collect();
    work();
    for (token, file) in (0..).zip(&all) {
        world.preserve(&session, token, file).expect("memory");
    }
    let preserved = work();
    world.luo.reboot().expect("nothing fails");
    let written = work();
    std::mem::forget((session, all));
    let handed = world.kexec();
    let world = World::warm(handed);
    work();
    let session = world.open("one").expect("it came");
    let read = work();
    let all: Vec<_> = (0..count)
        .map(|token| world.retrieve(&session, token).expect("it came"))
        .collect();
    world.close_incoming(session);
    drop(all);
    [preserved, written, read, work()]
}

fn is_linear(what: &str, few: [u64; 4], many: [u64; 4]) {
    println!("{what}: {few:?}, ten times as many: {many:?}");
    for (few, many) in few.into_iter().zip(many) {
        // A step that does next to nothing is granted a word for each.
        assert!(many < (few + 1000) * MOST, "{what}: {few}, then {many}");
    }
}

#[test]
fn of_sessions_is_linear() {
    is_linear("sessions", sessions(1000), sessions(10_000));
}

#[test]
fn of_files_is_linear() {
    is_linear("files", files(1000), files(10_000));
}
