// SPDX-License-Identifier: GPL-2.0
//! What others do to a preserved file's pages until the jump, and to a file that is being
//! retrieved: swap, collapse, compaction, bad memory, drop_caches, and whoever looks at all page
//! frames.

pub mod family;
mod undo;

use super::memfd::{cases, swap};
use crate::cmdline::Cmdline;
use crate::sys::{self, Advise, Mapping};
use crate::{event, kexec, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, RetrievedSession};
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SESSION: &str = "neighbours";

/// Files of which a page goes out to swap and comes back all the time, so that a freeze may meet it
/// on its way.
const COMMUTERS: u64 = 16;
const COMMUTER_PAGES: usize = 64;
/// The page that comes and goes. Those before it are preserved from the start.
const COMMUTES: usize = 40;

/// A file that everything is done to, and one that says how far the writer has come.
const STORMY: u64 = 100;
const STORMY_PAGES: usize = 32 << 8;
const PROGRESS: u64 = 101;

/// How long it goes on before the jump.
const STORM: Duration = Duration::from_secs(4);

pub fn play(cmdline: &Cmdline) -> Result<()> {
    swap::on()?;
    event::value("min_free", min_free()?);
    if cmdline.generation() == 0 {
        return hand_over(cmdline);
    }
    let device = Device::open()?;
    let session = device.retrieve_session(SESSION)?;
    commuters_arrived(&session)?;
    stormy_arrived(&session)?;
    family::play(&session)?;
    undo::play(&session)?;
    session.finish()?;
    watermarks()
}

fn min_free() -> Result<u64> {
    let text = fs::read_to_string("/proc/sys/vm/min_free_kbytes")?;
    Ok(text.trim().parse()?)
}

/// They are made again a moment after memory has come back.
fn watermarks() -> Result<()> {
    std::thread::sleep(Duration::from_secs(1));
    event::value("min_free at the end", min_free()?);
    Ok(())
}

fn memfd(pages: usize) -> Result<(File, Mapping)> {
    let file = File::from(memfd_create("neighbours", MemfdFlags::CLOEXEC)?);
    ftruncate(&file, (pages * sys::PAGE) as u64)?;
    let mapping = Mapping::new(&file, pages * sys::PAGE)?;
    Ok((file, mapping))
}

fn word(mapping: &Mapping, page: usize) -> &AtomicU64 {
    &mapping.atomic_words()[page * sys::PAGE / 8]
}

fn stamp(file: u64, page: usize) -> u64 {
    0x4e42_0000_0000_0000 | file << 32 | page as u64
}

fn hand_over(cmdline: &Cmdline) -> Result<()> {
    let session = Device::open()?.create_session(SESSION)?;
    let mut commuters = Vec::new();
    for number in 0..COMMUTERS {
        let (file, mapping) = memfd(COMMUTER_PAGES)?;
        for page in 0..COMMUTES {
            word(&mapping, page).store(stamp(number, page), Ordering::SeqCst);
        }
        session.preserve(&file, number)?;
        word(&mapping, COMMUTES).store(stamp(number, COMMUTES), Ordering::SeqCst);
        commuters.push(mapping);
    }
    let (file, stormy) = memfd(STORMY_PAGES)?;
    session.preserve(&file, STORMY)?;
    let (file, progress) = memfd(1)?;
    word(&progress, 0).store(0, Ordering::SeqCst);
    session.preserve(&file, PROGRESS)?;
    undo::preserve(&session)?;
    family::preserve(&session)?;
    kexec::load(cmdline)?;
    bad_memory()?;

    std::thread::scope(|scope| {
        let (stormy, progress) = (&stormy, &progress);
        for some in commuters.chunks(4) {
            scope.spawn(move || commute(some));
        }
        scope.spawn(move || write_on(stormy, progress));
        scope.spawn(move || push_around(stormy));
        scope.spawn(move || turn_over());
        std::thread::sleep(STORM);
        let outcome = kexec::jump();
        event::check("the machine jumped", false, format!("{outcome:?}"));
        machine::power_off()
    })
}

/// Out to swap, and in again.
fn commute(files: &[Mapping]) {
    loop {
        for file in files {
            word(file, COMMUTES).load(Ordering::SeqCst);
            let _ = file.advise(COMMUTES, 1, Advise::PageOut);
        }
    }
}

/// Writes into every other page, and then says that it has.
fn write_on(stormy: &Mapping, progress: &Mapping) {
    for page in (0..STORMY_PAGES).step_by(2) {
        word(stormy, page).store(stamp(STORMY, page), Ordering::SeqCst);
        word(progress, 0).store(page as u64 + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Swaps parts of a file out, and makes huge pages of others.
fn push_around(stormy: &Mapping) {
    const PART: usize = 512;
    for number in 0usize.. {
        let part = number * 7 % (STORMY_PAGES / PART) * PART;
        let _ = match number % 3 {
            0 => stormy.advise(part, PART, Advise::Collapse),
            _ => stormy.advise(part, PART, Advise::PageOut),
        };
    }
}

/// Moves and drops what can be, in the whole machine.
fn turn_over() {
    loop {
        let _ = fs::write("/proc/sys/vm/compact_memory", "1");
        // 4: without a line in the log each time.
        let _ = fs::write("/proc/sys/vm/drop_caches", "5");
        let _ = fs::write("/sys/kernel/debug/split_huge_pages", "1");
    }
}

/// A page that turns out to be bad once it is preserved: no jump with it, and one without.
fn bad_memory() -> Result<()> {
    let session = Device::open()?.create_session("bad")?;
    let file = cases::filled(3, 1 << 20)?;
    session.preserve(&file, 7)?;
    match sys::poison(&file, 17) {
        // It stays where it is, since it is preserved.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        done => done.context("cannot make a page bad")?,
    }
    let refused = kexec::jump();
    let errno = refused.as_ref().err().and_then(|e| e.downcast_ref());
    event::check(
        "a reboot is refused while bad memory is preserved",
        errno == Some(&Errno::HWPOISON),
        format!("{refused:?}"),
    );
    Ok(())
}

fn commuters_arrived(session: &RetrievedSession) -> Result<()> {
    let mut lost = Vec::new();
    for number in 0..COMMUTERS {
        let file = File::from(session.retrieve(number)?);
        let mapping = Mapping::new(&file, COMMUTER_PAGES * sys::PAGE)?;
        for page in 0..=COMMUTES {
            if word(&mapping, page).load(Ordering::SeqCst) != stamp(number, page) {
                lost.push((number, page));
            }
        }
    }
    event::check(
        "no page that was on its way to swap or from there is lost",
        lost.is_empty(),
        format!("{lost:?}"),
    );
    Ok(())
}

fn stormy_arrived(session: &RetrievedSession) -> Result<()> {
    let (stormy, progress) = (session.retrieve(STORMY)?, session.retrieve(PROGRESS)?);
    let stormy = Mapping::new(&stormy, STORMY_PAGES * sys::PAGE)?;
    let came = word(&Mapping::new(&progress, sys::PAGE)?, 0).load(Ordering::SeqCst);
    let at = |page| word(&stormy, page).load(Ordering::SeqCst);
    let written = usize::try_from(came)?;
    let lost = (0..written)
        .step_by(2)
        .find(|p| at(*p) != stamp(STORMY, *p));
    event::check(
        "no page that was written, swapped, collapsed or moved is lost",
        lost.is_none() && came > 0,
        format!("{came} pages; page {lost:?} is"),
    );
    let odd = (1..STORMY_PAGES).step_by(2).find(|page| at(*page) != 0);
    event::check("the others are empty", odd.is_none(), format!("{odd:?}"));
    Ok(())
}
