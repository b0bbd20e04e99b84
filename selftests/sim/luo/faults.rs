// SPDX-License-Identifier: GPL-2.0

//! Every operation without memory, and with drivers that refuse: nothing has changed then, and it
//! works when tried again.

use super::lab::{a_file, intact, lab, FAILED};
use super::world::{Incoming, Outgoing, World};
use crate::luo::Left;
use crate::sim::kernel::{small_machine, Handed, Kernel};
use crate::sys::error::{Error, Result, EBADMSG, EBUSY, ENODATA, ENOENT, ENOMEM};
use crate::sys::machine::with;

/// All that an operation which fails must leave as it is. A file that arrived may have got to know
/// its handler, whose module is then in use.
fn state(world: &World) -> (u64, u64, String, &'static str) {
    (
        world.owned(),
        world.waiting(),
        world.sessions(4096),
        world.luo.state(),
    )
}

/// Does something with its first, second, ... allocation failing, until none does. Returns how many
/// times it failed, and what it gave.
pub(super) fn starved<T>(world: &World, mut what: impl FnMut() -> Result<T>) -> (u64, T) {
    for nth in 0.. {
        let before = state(world);
        let first = with(|m| m.allocations());
        with(|m| m.faults.nth = Some(first + nth));
        let result = what();
        with(|m| m.faults.nth = None);
        match result {
            Ok(given) => {
                let asked = with(|m| m.allocations()) - first;
                assert!(asked <= nth, "allocation {nth} failed and nobody cared");
                return (nth, given);
            }
            Err(err) => {
                assert_eq!(err, ENOMEM);
                assert_eq!(state(world), before, "allocation {nth}");
            }
        }
    }
    unreachable!("it succeeds at last")
}

/// Does something with the first, second, ... call of a driver failing.
fn refused<T>(world: &World, error: Error, mut what: impl FnMut() -> Result<T>) -> (u64, T) {
    for nth in 0.. {
        let before = state(world);
        lab().fail(Some(nth));
        let result = what();
        lab().fail(None);
        match result {
            Ok(given) => return (nth, given),
            Err(err) => {
                assert_eq!(err, error);
                assert_eq!(state(world), before, "call {nth}");
            }
        }
    }
    unreachable!("it succeeds at last")
}

/// Fills a block, so that what comes next needs another one.
const FILES_IN_A_BLOCK: u64 = 63;
const SESSIONS_IN_A_BLOCK: usize = 51;

#[test]
fn the_way_out_without_memory() {
    let world = World::cold();
    let idle = world.owned();
    let (failed, one) = starved(&world, || world.create("one"));
    assert!(failed >= 4, "{failed} allocations");
    for token in 0..FILES_IN_A_BLOCK {
        let file = a_file(0, token).expect("memory");
        world.preserve(&one, token, &file).expect("memory");
    }
    let file = a_file(1, 7).expect("memory");
    let (failed, ()) = starved(&world, || world.preserve(&one, 100, &file));
    assert!(failed >= 6, "{failed} allocations");
    let others: Vec<Outgoing> = (1..SESSIONS_IN_A_BLOCK)
        .map(|n| world.create(&format!("other {n}")).expect("memory"))
        .collect();
    let (failed, last) = starved(&world, || world.create("last"));
    assert!(failed >= 5, "{failed} allocations");
    assert_eq!(starved(&world, || world.luo.reboot()).0, 0);
    // Undone before it jumps.
    drop((one, others, last, file));
    let handed = world.kexec();
    let world = World::warm(handed);
    let session = world.open("one").expect("it came");
    assert!(world.retrieve(&session, 100).is_ok());
    world.close_incoming(session);
    for n in 1..SESSIONS_IN_A_BLOCK {
        let session = world.open(&format!("other {n}")).expect("it came");
        world.close_incoming(session);
    }
    world.close_incoming(world.open("last").expect("it came"));
    assert_eq!(world.owned(), idle);
}

#[test]
fn undoing_needs_no_memory() {
    let world = World::cold();
    let idle = world.owned();
    let session = world.create("one").expect("memory");
    let files: Vec<_> = (0..5).map(|n| a_file(1, n).expect("memory")).collect();
    for (token, file) in (0..).zip(&files) {
        world.preserve(&session, token, file).expect("memory");
    }
    drop(files);
    with(|m| m.faults.from = Some(m.allocations()));
    lab().fail(Some(3));
    assert_eq!(world.luo.reboot(), Err(FAILED));
    world.close(session);
    with(|m| m.faults.from = None);
    assert_eq!(world.owned(), idle);
    assert!(lab().is_idle());
}

/// Two sessions: "one" with files 1 to 3, of which 2 uses both FLBs, and "two" with file 1.
fn handover() -> Handed {
    let world = World::cold();
    for (name, files) in [("one", 3), ("two", 1)] {
        let session = world.create(name).expect("memory");
        for token in 1..=files {
            let file = a_file((token % 2) as usize ^ 1, token).expect("memory");
            world.preserve(&session, token, &file).expect("memory");
            std::mem::forget(file);
        }
        std::mem::forget(session);
    }
    world.luo.reboot().expect("nothing fails");
    world.kexec()
}

#[test]
fn the_way_in_without_memory() {
    let world = World::warm(handover());
    let idle = world.owned();
    let (failed, one) = starved(&world, || world.open("one"));
    assert!(failed >= 2, "{failed} allocations");
    let (flb, name) = lab().flb(0);
    let (_, object) = starved(&world, || world.luo.get_incoming(flb, name));
    assert!(!object.is_null());
    let (failed, file) = starved(&world, || world.retrieve(&one, 2));
    assert!(failed >= 2, "{failed} allocations");
    assert_eq!(intact(&file), Some(2));
    let again = world.create("again").expect("memory");
    assert_eq!(world.preserve(&again, 1, &file), Err(EBUSY));
    world.close(again);
    // Files 1 and 3 get their handlers now.
    let (failed, ()) = starved(&world, || world.finish(&one));
    assert_eq!(failed, 0, "handlers are found without memory");
    world.close_incoming(one);
    world.luo.put_incoming(flb, name);
    assert_eq!(intact(&file), Some(2));
    drop(file);

    // Closing needs none either.
    let two = world.open("two").expect("it came");
    with(|m| m.faults.from = Some(m.allocations()));
    world.close_incoming(two);
    with(|m| m.faults.from = None);
    assert_eq!(world.open("two").err(), Some(ENOENT));
    assert!(lab().is_idle());
    assert_eq!(world.owned(), idle);
    assert_eq!(world.luo.state(), "operating");
}

/// A file whose handler is known is retrieved with fewer allocations: so each time a new boot.
#[test]
fn retrieving_without_memory() {
    let mut failed = 0;
    for nth in 0.. {
        let world = World::warm(handover());
        let one = world.open("one").expect("it came");
        let before = state(&world);
        with(|m| m.faults.nth = Some(m.allocations() + nth));
        let result = world.retrieve(&one, 2);
        let armed = with(|m| m.faults.nth.take()).expect("set");
        if let Ok(file) = result {
            assert!(
                with(|m| m.allocations()) <= armed,
                "allocation {nth}: nobody cared"
            );
            let again = world.create("again").expect("memory");
            assert_eq!(world.preserve(&again, 1, &file), Err(EBUSY));
            world.close(again);
            break;
        }
        failed += 1;
        assert_eq!((result.err(), state(&world)), (Some(ENOMEM), before));
        let file = world.retrieve(&one, 2).expect("memory is there again");
        assert_eq!(intact(&file), Some(2));
    }
    assert!(failed >= 2, "{failed} allocations");
}

#[test]
fn booting_without_memory() {
    let mut failed = 0;
    for nth in 0.. {
        let handed = handover();
        let (kernel, why) = Kernel::warm(handed);
        assert!(why.is_none());
        with(|m| m.faults.nth = Some(m.allocations() + nth));
        let left = super::world::root_of(&kernel, handed);
        let booted = World::boot(kernel, left);
        let asked = with(|m| m.faults.nth.take()).expect("set");
        if let Err(err) = booted.as_ref().map(|_| ()) {
            assert_eq!(*err, ENOMEM);
            failed += 1;
            continue;
        }
        if with(|m| m.allocations()) <= asked {
            break;
        }
        // Of all that is read, only FLBs may be missing, and that is said.
        let world = booted.expect("it is there");
        assert!(world.last_error().contains("no memory"));
        assert!(world.open("one").is_ok());
    }
    assert!(failed >= 15, "{failed} allocations");
}

#[test]
fn drivers_that_refuse_on_the_way_out() {
    let world = World::cold();
    let idle = world.owned();
    let session = world.create("one").expect("memory");
    let file = a_file(1, 5).expect("memory");
    // Two FLBs and the file.
    let (failed, ()) = refused(&world, FAILED, || world.preserve(&session, 1, &file));
    assert_eq!(failed, 3);
    let other = a_file(0, 6).expect("memory");
    let (failed, ()) = refused(&world, FAILED, || world.preserve(&session, 2, &other));
    assert_eq!(failed, 1, "the FLB is there");
    world.close(session);
    assert!(lab().is_idle());
    drop((file, other));
    assert_eq!(world.owned(), idle);
}

#[test]
fn drivers_that_refuse_on_the_way_in() {
    let world = World::warm(handover());
    let idle = world.owned();
    let one = world.open("one").expect("it came");
    // A handler that fails once is not asked again, and the others are.
    lab().fail(Some(0));
    assert_eq!(world.retrieve(&one, 1).err(), Some(FAILED));
    lab().fail(None);
    assert_eq!(world.retrieve(&one, 1).err(), Some(FAILED));
    let file = world.retrieve(&one, 3).expect("another one");
    assert_eq!(intact(&file), Some(3));
    let (failed, ()) = refused(&world, EBUSY, || world.finish(&one));
    // Each of three files in turn, and the FLB's retrieve, whose failure concerns no session.
    assert!(failed >= 3, "{failed}");
    world.close_incoming(one);
    drop(file);
    world.close_incoming(world.open("two").expect("it came"));
    assert_eq!(world.owned(), idle, "what could not be restored waits");
}

#[test]
fn an_flb_that_cannot_be_restored() {
    let world = World::warm(handover());
    let (flb, name) = lab().flb(0);
    lab().fail(Some(0));
    assert_eq!(world.luo.get_incoming(flb, name), Err(FAILED));
    lab().fail(None);
    assert_eq!(world.luo.get_incoming(flb, name), Err(FAILED));
    let (other, other_name) = lab().flb(1);
    assert!(world.luo.get_incoming(other, other_name).is_ok());
    world.luo.put_incoming(other, other_name);
    for name in ["one", "two"] {
        let session: Incoming = world.open(name).expect("it came");
        world.close_incoming(session);
    }
    assert!(lab().is_idle());
    assert_eq!(world.luo.get_incoming(other, other_name), Err(ENODATA));
}

#[test]
fn an_flb_lives_as_long_as_anybody_needs_it() {
    let world = World::warm(handover());
    let (flb, name) = lab().flb(0);
    let object = world.luo.get_incoming(flb, name).expect("it came");
    for name in ["one", "two"] {
        let session = world.open(name).expect("it came");
        world.close_incoming(session);
    }
    lab().take_calls();
    assert_eq!(world.luo.get_incoming(flb, name), Ok(object));
    world.luo.put_incoming(flb, name);
    assert!(lab().take_calls().is_empty());
    world.luo.put_incoming(flb, name);
    assert_eq!(lab().take_calls().len(), 1);
    assert_eq!(world.luo.get_incoming(flb, name), Err(ENODATA));
    assert!(lab().is_idle());
}

#[test]
fn nothing_arrived() {
    let world = World::cold();
    let (flb, name) = lab().flb(0);
    assert_eq!(world.luo.get_incoming(flb, name), Err(ENODATA));
    assert_eq!(world.open("one").err(), Some(ENOENT));
    drop(world);
    // A root that cannot be read may have had anything.
    let kernel = Kernel::cold(small_machine());
    let at = crate::kho::addr::PhysAddr::new(0x10_0000);
    let world = World::boot(kernel, Left::Root(at, 32)).expect("memory");
    assert_eq!(world.open("one").err(), Some(EBADMSG));
    assert_eq!(world.luo.get_incoming(flb, name), Err(EBADMSG));
    assert!(world.last_error().contains("cannot be read"));
}
