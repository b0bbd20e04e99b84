// SPDX-License-Identifier: GPL-2.0
//! Memfds with holes: one far larger than the machine, one that a thread writes into until the
//! jump, and small pages that come back as large ones.

use super::memfd::cases;
use crate::cmdline::Cmdline;
use crate::sys::{self, Mapping};
use crate::{event, kexec, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Errno, RetrievedSession};
use rustix::fs::{
    fallocate, fchmod, fstat, ftruncate, memfd_create, FallocateFlags, MemfdFlags, Mode,
};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The large one, and how much is in it, in so many places.
const LARGE: u64 = 4 << 30;
const IN_IT: u64 = 64 << 20;
const PLACES: u64 = 64;
const LARGE_TOKEN: u64 = 0;

/// The one that is written into, every other page from the front, and the one that says how far
/// that has come.
const WRITTEN: u64 = 256 << 20;
const WRITTEN_TOKEN: u64 = 1;
const PROGRESS_TOKEN: u64 = 2;

/// The one of large folios that were split.
const SPLIT: u64 = 16 << 20;
const SPLIT_TOKEN: u64 = 3;

/// The one with a page at either end and nothing between.
const VAST: u64 = (16 << 40) + 4096;
const VAST_TOKEN: u64 = 4;

const SESSION: &str = "sparse";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    match cmdline.generation() {
        0 => hand_over(cmdline),
        _ => receive(cmdline),
    }
}

fn held(file: &File) -> Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_blocks)? * 512)
}

fn shmem() -> Result<u64> {
    machine::memory_figure("/proc/meminfo", "Shmem")
}

fn memfd(name: &str, bytes: u64) -> Result<File> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    ftruncate(&file, bytes)?;
    Ok(file)
}

fn large() -> Result<File> {
    let file = memfd("large", LARGE)?;
    for place in 0..PLACES {
        let content = cases::content(place, IN_IT / PLACES);
        file.write_all_at(&content, place * (LARGE / PLACES))?;
    }
    Ok(file)
}

/// Huge pages, split: small pages that are neighbours in memory and in the file.
fn split() -> Result<File> {
    let file = cases::filled_huge(99, SPLIT)?;
    let mapping = Mapping::new(&file, SPLIT as usize)?;
    mapping.populate()?;
    let (start, end) = (mapping.address(), mapping.address() + SPLIT as usize);
    let asked = format!("{},{start:#x},{end:#x}", std::process::id());
    fs::write("/sys/kernel/debug/split_huge_pages", asked).context("cannot split huge pages")?;
    Ok(file)
}

fn hand_over(cmdline: &Cmdline) -> Result<()> {
    let session = Device::open()?.create_session(SESSION)?;
    let large = large()?;
    let before = (held(&large)?, shmem()?);
    fchmod(&large, Mode::from_raw_mode(0o6751))?;
    session.preserve(&large, LARGE_TOKEN)?;
    let after = (held(&large)?, shmem()?);
    event::check(
        "4 GiB with 64 MiB in it take no more to preserve",
        after == before && before.0 == IN_IT,
        format!("{before:?}, then {after:?} bytes"),
    );
    let vast = memfd("vast", VAST)?;
    for at in [0, VAST - 4096] {
        vast.write_all_at(&cases::content(at, 4096), at)?;
    }
    session.preserve(&vast, VAST_TOKEN)?;
    let split = split()?;
    let huge = machine::memory_figure("/proc/meminfo", "ShmemHugePages")?;
    event::check(
        "the split file has small pages",
        huge == 0,
        format!("{huge} bytes are huge"),
    );
    session.preserve(&split, SPLIT_TOKEN)?;
    let written = memfd("written", WRITTEN)?;
    session.preserve(&written, WRITTEN_TOKEN)?;
    let progress = cases::filled(0, 4096)?;
    session.preserve(&progress, PROGRESS_TOKEN)?;
    let progress = Mapping::new(&progress, sys::PAGE)?;
    progress.atomic_words()[0].store(0, Ordering::SeqCst);
    let written = Mapping::new(&written, WRITTEN as usize)?;

    let _session = session;
    std::thread::scope(|scope| {
        let (written, progress) = (&written, &progress);
        scope.spawn(move || write_on(written, progress));
        let outcome = race(cmdline, progress);
        // The jump did not come.
        event::check("the machine jumped", false, format!("{outcome:?}"));
        machine::power_off()
    })
}

/// Writes into every other page, and then says that it has.
fn write_on(written: &Mapping, progress: &Mapping) {
    for (number, page) in written.atomic_words().chunks(512).enumerate().step_by(2) {
        page[0].store(stamp(number), Ordering::SeqCst);
        progress.atomic_words()[0].store(number as u64 + 1, Ordering::SeqCst);
        // Slow enough not to be through before the jump.
        if number % 4 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn stamp(page: usize) -> u64 {
    0x5354_414d_5000_0000 | page as u64
}

/// A reboot that is refused, after files were frozen; then one that is not.
fn race(cmdline: &Cmdline, progress: &Mapping) -> Result<()> {
    let at = || progress.atomic_words()[0].load(Ordering::SeqCst);
    let further = |than: u64| {
        let begun = Instant::now();
        while at() <= than && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        at()
    };
    event::check("the other thread writes", further(0) > 0, at().to_string());
    let last = super::driver::a_file_that_cannot_be_frozen()?;
    kexec::load(cmdline)?;
    let refused = kexec::jump();
    let errno = refused
        .as_ref()
        .err()
        .and_then(|e| e.downcast_ref::<Errno>());
    event::check(
        "a reboot is refused after memfds were frozen",
        errno == Some(&Errno::INVAL),
        format!("{refused:?}"),
    );
    let was = at();
    event::check(
        "then the other thread writes on",
        further(was + 4) > was + 4,
        format!("{was}, then {}", at()),
    );
    drop(last);
    kexec::jump()
}

fn receive(cmdline: &Cmdline) -> Result<()> {
    let session = Device::open()?.retrieve_session(SESSION)?;
    vast_arrived(&session)?;
    let large = File::from(session.retrieve(LARGE_TOKEN)?);
    let mut wrong = Vec::new();
    let mut part = vec![0; (IN_IT / PLACES) as usize];
    for place in 0..PLACES {
        large.read_exact_at(&mut part, place * (LARGE / PLACES))?;
        if part != cases::content(place, IN_IT / PLACES) {
            wrong.push(place);
        }
    }
    event::check(
        "4 GiB with 64 MiB in it came back right",
        wrong.is_empty(),
        format!("wrong: {wrong:?}"),
    );
    event::check(
        "its holes are holes",
        held(&large)? == IN_IT,
        format!("{} bytes", held(&large)?),
    );
    event::check(
        "its size is as before",
        large.metadata()?.len() == LARGE,
        "",
    );

    let mode = large.metadata()?.mode() & 0o7777;
    event::check(
        "its mode is, without what would run as its owner",
        mode == 0o751,
        format!("{mode:o}"),
    );

    let written = File::from(session.retrieve(WRITTEN_TOKEN)?);
    let progress = File::from(session.retrieve(PROGRESS_TOKEN)?);
    let came = Mapping::new(&progress, sys::PAGE)?.words()[0];
    let words = Mapping::new(&written, WRITTEN as usize)?;
    let pages = || words.words().chunks(512).enumerate();
    let lost = pages()
        .take(came as usize)
        .step_by(2)
        .find(|(n, page)| page[0] != stamp(*n));
    event::check(
        "no page that was written into a hole is lost",
        lost.is_none() && came > 0,
        format!(
            "{came} pages written; {:?}",
            lost.map(|(n, page)| (n, page[0]))
        ),
    );
    let odd = pages().find(|(n, page)| page[0] != 0 && page[0] != stamp(*n));
    event::check(
        "the others are empty",
        odd.is_none(),
        format!("{:?}", odd.map(|(n, _)| n)),
    );
    drop(words);

    let split = File::from(session.retrieve(SPLIT_TOKEN)?);
    let huge = machine::memory_figure("/proc/meminfo", "ShmemHugePages")?;
    let merges = cmdline.get("merge") != Some("off");
    event::check(
        match merges {
            true => "small pages came back as huge ones",
            false => "with liveupdate.merge=off they stay small",
        },
        if merges { huge >= SPLIT / 2 } else { huge == 0 },
        format!("{huge} bytes are huge"),
    );
    event::check(
        "and are whole",
        cases::damage(&split, 99, SPLIT)?.is_none(),
        "",
    );
    session.finish()?;
    accounts(split)
}

fn vast_arrived(session: &RetrievedSession) -> Result<()> {
    let vast = File::from(session.retrieve(VAST_TOKEN)?);
    let mut wrong = Vec::new();
    for at in [0, VAST - 4096] {
        let mut found = vec![0; 4096];
        vast.read_exact_at(&mut found, at)?;
        if found != cases::content(at, 4096) {
            wrong.push(at);
        }
    }
    let (bytes, held) = (vast.metadata()?.len(), held(&vast)?);
    event::check(
        "a file of 16 TiB and a page with two pages in it came back",
        wrong.is_empty() && bytes == VAST && held == 8192,
        format!("wrong at {wrong:?}; {bytes} bytes, {held} of them there"),
    );
    Ok(())
}

/// What is taken out of a file that came back, and put in, counts to the page.
fn accounts(file: File) -> Result<()> {
    const HUGE: u64 = 2 << 20;
    let mut trouble = Vec::new();
    let start = (held(&file)?, shmem()?);
    let mut expected = SPLIT;
    let mut look = |what: &str, gone: u64| -> Result<()> {
        expected -= gone;
        let now = (held(&file)?, shmem()?);
        if now.0 != expected || start.0 - now.0 != start.1 - now.1 {
            trouble.push(format!(
                "{what}: {start:?}, then {now:?} and not {expected}"
            ));
        }
        Ok(())
    };
    look("retrieved", 0)?;
    let punch = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
    fallocate(&file, punch, 2 * HUGE, HUGE)?;
    look("punched", HUGE)?;
    ftruncate(&file, SPLIT / 2)?;
    look("truncated", SPLIT / 2)?;
    ftruncate(&file, 0)?;
    look("emptied", SPLIT / 2 - HUGE)?;
    event::check(
        "a file that came back is accounted for to the page",
        trouble.is_empty(),
        trouble.join("; "),
    );
    Ok(())
}
