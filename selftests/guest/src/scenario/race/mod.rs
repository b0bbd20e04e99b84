// SPDX-License-Identifier: GPL-2.0
//! Threads and processes that use the orchestrator all at once, against each other, until the
//! update comes in the middle of it. Each kernel finds what was complete, whole, and nothing that
//! contradicts itself.

mod arrivals;
mod log;
mod pool;
mod racer;
mod slots;

use super::splats;
use crate::cmdline::Cmdline;
use crate::memory::Wish;
use crate::pattern::Depth;
use crate::{event, kexec, machine};
use anyhow::{Context, Result};
use arrivals::Arrivals;
use liveupdate_uapi::{Device, OpenError};
use log::Log;
use pool::Pool;
use slots::Slots;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use racer::play as racer;

/// Each file; small, as the race is for the orchestrator.
const WISH: Wish = Wish {
    bytes: 8192,
    depth: Depth::Full,
    huge: false,
    node: None,
};
const THREADS: u64 = 4;
const PROCESSES: u64 = 3;
/// How long it goes on when the update is on its way.
const LAST_LAP: Duration = Duration::from_secs(3);

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let generation = cmdline.generation();
    if generation > 0 {
        arrived()?;
    }
    if cmdline.chain().is_empty() {
        let session = Device::open()?.create_session("the end")?;
        session.preserve(crate::memory::filled(&WISH, 0)?, 0)?;
        drop(session);
        return splats::leaks();
    }
    // lib/tests/liveupdate.c prints a line for each first and last file; the serial port would set
    // the pace.
    machine::switch("/proc/sys/kernel/printk", "5")?;
    let seconds = cmdline.number("seconds", 20) / 2;
    let race = Race::new(generation)?;
    race.run(Duration::from_secs(seconds), || Ok(()))?;
    race.report(seconds);
    if generation > 0 {
        race.arrivals.all_came()?;
        splats::leaks()?;
    }
    let _kept = arrivals::hand_over()?;
    let _log = race.log.hand_over()?;
    kexec::load(cmdline)?;
    race.run(LAST_LAP, kexec::jump)
}

/// What the kernel before left: its log, and all that must be or may be there.
fn arrived() -> Result<()> {
    let log = Log::retrieve()?;
    let (complete, building) = slots::verify(&log)?;
    event::check(
        "sessions that were complete are whole, those in the making are not contradictory",
        complete > 0,
        format!("{complete} complete, {building} in the making"),
    );
    let pool = pool::verify()?;
    let killed = racer::verify()?;
    event::check(
        "what threads and processes fought for is not contradictory",
        true,
        format!("{pool} sessions of threads, {killed} of processes"),
    );
    Ok(())
}

/// Everything that takes part.
struct Race {
    log: Log,
    slots: Vec<Mutex<Slots>>,
    pool: Pool,
    arrivals: Arrivals,
    racers: racer::Racers,
}

impl Race {
    fn new(generation: u64) -> Result<Self> {
        let slots = (0..THREADS).map(|thread| Ok(Mutex::new(Slots::new(thread)?)));
        Ok(Self {
            log: Log::new()?,
            slots: slots.collect::<Result<_>>()?,
            pool: Pool::new()?,
            arrivals: Arrivals::new(generation > 0),
            racers: racer::Racers::new()?,
        })
    }

    /// Lets everything run, and then does `last` while it still runs.
    fn run(&self, duration: Duration, last: impl FnOnce() -> Result<()>) -> Result<()> {
        let over = AtomicBool::new(false);
        let began = Instant::now();
        let over = &over;
        std::thread::scope(|scope| {
            for slots in &self.slots {
                scope.spawn(move || {
                    let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut chance = Chance::new();
                    while !over.load(Ordering::Relaxed) {
                        let part = began.elapsed().as_secs_f64() / duration.as_secs_f64();
                        let done = match chance.below(8) {
                            0 => self.pool.act(&mut chance),
                            1 | 2 => self.arrivals.act(&mut chance, part),
                            3 => look_around(&mut chance),
                            _ => slots.act(&self.log, &mut chance),
                        };
                        if let Err(error) = done {
                            trouble(format!("{error:#}"));
                        }
                        OPERATIONS.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(move || {
                if let Err(error) = self.racers.run(over) {
                    trouble(format!("{error:#}"));
                }
            });
            std::thread::sleep(duration);
            let result = last();
            over.store(true, Ordering::Relaxed);
            result
        })
    }

    fn report(&self, seconds: u64) {
        let wrong = TROUBLE.lock().unwrap_or_else(PoisonError::into_inner);
        event::check(
            "no operation ended as it must not",
            wrong.is_empty(),
            wrong.iter().take(5).cloned().collect::<Vec<_>>().join("; "),
        );
        let operations = OPERATIONS.load(Ordering::Relaxed);
        let kills = self.racers.kills();
        event::check(
            "a lot was tried, and processes were killed",
            operations > 5 * seconds && kills > seconds / 10,
            format!("{operations} operations, {kills} kills in {seconds} s"),
        );
    }
}

static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static TROUBLE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes what must not have happened.
fn trouble(what: String) {
    TROUBLE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(what);
}

/// The device, once it is free: everybody wants it.
fn device() -> Result<Option<Device>> {
    for _ in 0..1000 {
        match Device::open() {
            Ok(device) => return Ok(Some(device)),
            Err(OpenError::Busy) => std::thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Reads what an operator can look at.
fn look_around(chance: &mut Chance) -> Result<()> {
    let places = ["/sys/kernel/liveupdate", "/sys/kernel/debug/kho/out"];
    let place = places[usize::from(chance.below(4) == 0)];
    read_all(std::path::Path::new(place), 0)
}

fn read_all(place: &std::path::Path, depth: u32) -> Result<()> {
    // Entries come and go while they are read; only mainline has no such folder at all.
    let Ok(entries) = std::fs::read_dir(place) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if folder && depth < 4 {
            read_all(&entry.path(), depth + 1)?;
        } else if !folder {
            let _ = std::fs::read(entry.path());
        }
    }
    Ok(())
}

/// Random numbers (xorshift64*); each its own sequence.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) + u64::from(std::process::id()) * 1000;
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }

    /// One of several; `None` when there is none.
    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.below(of.len().max(1) as u64);
        of.get(usize::try_from(index).ok()?)
    }
}

/// Checks a file that has arrived.
fn intact(file: impl Into<std::fs::File>, seed: u64) -> Result<()> {
    match crate::memory::verify(&file.into(), &WISH, seed)? {
        None => Ok(()),
        Some(trouble) => Err(anyhow::anyhow!(trouble)),
    }
    .with_context(|| format!("the file with seed {seed}"))
}
