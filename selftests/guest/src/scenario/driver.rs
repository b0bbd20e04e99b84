// SPDX-License-Identifier: GPL-2.0
//! The example driver in Rust, through real updates: its counters are preserved, given up,
//! preserved again, and go on counting in the next kernel.

use crate::cmdline::Cmdline;
use crate::{event, formats, kexec, sys};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Errno, PreserveError, Session};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

const SESSION: &str = "counters";
/// `_IO('C', 1)`: a new counter.
const NEW: libc::c_ulong = 0x4301;
/// The counter that is asked for in the next kernel, and the one that is not.
const WANTED: u64 = 0;
const FORGOTTEN: u64 = 1;
/// Where the first kernel leaves the counter.
const LEFT_AT: u64 = 41;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let generation = cmdline.generation();
    let mut counter = match generation {
        0 => dependent(first()?, cmdline)?,
        _ => received(generation)?,
    };
    if cmdline.chain().is_empty() {
        return Ok(());
    }
    let session = preserve(&counter)?;
    counts(&mut counter, "a preserved counter counts", at(generation))?;
    // The first update goes to a kernel that knows version 1 alone; that one writes what it knows,
    // for one that knows both.
    let hide = match generation {
        0 => "liveupdate-counter:2",
        _ => "",
    };
    written_in(if generation == 0 { 2 } else { 1 })?;
    let next = cmdline.for_next();
    kexec::load_file("/boot/ours", &format!("{next} liveupdate.hide={hide}"), 0)?;
    written_in(1)?;
    let _session = session;
    kexec::jump()
}

/// What the counter stands at when it is preserved in this generation: each counts twice.
fn at(generation: u64) -> u64 {
    LEFT_AT + 2 * generation
}

/// A counter that was preserved and given up.
fn first() -> Result<File> {
    let mut counter = new()?;
    counts(&mut counter, "a new counter starts at 1", 1)?;
    let session = preserve(&counter)?;
    let refused = set(&mut counter, 7)
        .err()
        .and_then(|err| err.raw_os_error());
    event::check(
        "a preserved counter cannot be set",
        refused == Some(libc::EBUSY),
        format!("{refused:?}"),
    );
    let again = session.preserve(&counter, FORGOTTEN + 1);
    event::check(
        "it is preserved once only",
        again.is_err(),
        "by a second token",
    );
    drop(session);
    set(&mut counter, LEFT_AT).context("after its session is closed it cannot be set")?;
    Ok(counter)
}

/// A session with a counter that needs another one, which was given up since: no reboot freezes all
/// files as long as it lives.
pub fn a_file_that_cannot_be_frozen() -> Result<Session> {
    let needed = new()?;
    let child = sys::ioctl_for_fd(&needed, NEW).context("cannot make a second counter")?;
    let device = Device::open()?;
    let [given_up, last] = ["given up", "last"].map(|name| device.create_session(name));
    let (given_up, last) = (given_up?, last?);
    given_up.preserve(&needed, WANTED)?;
    last.preserve(&child, WANTED)?;
    drop(given_up);
    Ok(last)
}

/// A counter that needs another one: refused before that one is preserved, and refused by reboot(2)
/// after that one was given up. That reboot leaves everything as it was, the frozen `counter` too.
fn dependent(mut counter: File, cmdline: &Cmdline) -> Result<File> {
    let needed = new()?;
    let child = sys::ioctl_for_fd(&needed, NEW).context("cannot make a second counter")?;
    let device = Device::open()?;
    let [first, second, last] = ["first", "second", "last"].map(|name| device.create_session(name));
    let (first, second, last) = (first?, second?, last?);
    drop(device);
    first.preserve(&counter, WANTED)?;
    let refused = last.preserve(&child, WANTED);
    event::check(
        "what it needs must be preserved first",
        refused == Err(PreserveError::Refused),
        format!("{refused:?}"),
    );
    second.preserve(&needed, WANTED)?;
    last.preserve(&child, WANTED)?;
    drop(second);
    kexec::load(cmdline)?;
    let stayed = kexec::jump();
    let errno = stayed
        .as_ref()
        .err()
        .and_then(|e| e.downcast_ref::<Errno>());
    event::check(
        "reboot(2) is refused once that is given up",
        errno == Some(&Errno::INVAL),
        format!("{errno:?}"),
    );
    counts(
        &mut counter,
        "after that, what was frozen counts again",
        LEFT_AT,
    )?;
    drop((first, last));
    set(&mut counter, LEFT_AT).context("after its session is closed it cannot be set")?;
    Ok(counter)
}

fn received(generation: u64) -> Result<File> {
    let session = Device::open()?
        .retrieve_session(SESSION)
        .context("the session did not arrive")?;
    let mut counter = File::from(session.retrieve(WANTED)?);
    let name = std::fs::read_link(format!("/proc/self/fd/{}", counter.as_raw_fd()))?;
    event::check(
        "what arrived is a counter",
        name.as_os_str() == "anon_inode:[liveupdate_counter]",
        name.display().to_string(),
    );
    let next = at(generation - 1) + 1;
    counts(&mut counter, "it goes on where it was", next)?;
    session.finish()?;
    set(&mut counter, next + 1).context("an arrived counter cannot be set")?;
    Ok(counter)
}

fn preserve(counter: &File) -> Result<Session> {
    let session = Device::open()?.create_session(SESSION)?;
    session.preserve(counter, WANTED)?;
    // Its last descriptor is closed here: the session alone keeps it.
    session.preserve(&new()?, FORGOTTEN)?;
    Ok(session)
}

fn new() -> Result<File> {
    let maker = File::open("/dev/liveupdate-counter")
        .context("cannot open /dev/liveupdate-counter; the kernel needs LIVEUPDATE_EXAMPLE")?;
    sys::ioctl_for_fd(&maker, NEW).context("cannot make a counter")
}

/// Checks in which version the two counters are preserved.
fn written_in(version: u32) -> Result<()> {
    let users = |version| match formats::has("liveupdate-counter", version) {
        true => formats::get("liveupdate-counter", version, "users"),
        false => Ok(0),
    };
    let shown = [users(1)?, users(2)?];
    let expected = match version {
        1 => [2, 0],
        _ => [0, 2],
    };
    event::check(
        &format!("both counters are preserved in version {version}"),
        shown == expected,
        format!("{} in version 1, {} in version 2", shown[0], shown[1]),
    );
    Ok(())
}

fn counts(counter: &mut File, name: &str, expected: u64) -> Result<()> {
    let mut bytes = [0; 8];
    counter.read_exact(&mut bytes).context("cannot count")?;
    let number = u64::from_ne_bytes(bytes);
    event::check(
        name,
        number == expected,
        format!("{number}, and {expected} is right"),
    );
    Ok(())
}

fn set(counter: &mut File, next: u64) -> io::Result<()> {
    counter.write_all(&next.to_ne_bytes())
}
