// SPDX-License-Identifier: GPL-2.0
//! Retrievals that fail and are undone, again and again, while somebody takes references to all
//! pages there are; then one that does not.

use super::family;
use crate::scenario::memfd::{cases, errno};
use crate::{event, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{RetrievedSession, Session};
use rustix::mount::{mount, MountFlags};
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SMALL: u64 = 200;
const HUGE: u64 = 201;
const SEED: u64 = 31;
const BYTES: u64 = 64 << 20;
const TRIES: Duration = Duration::from_secs(15);

const ROOT: &str = "/sys/fs/cgroup";
const POOR: &str = "/sys/fs/cgroup/poor";

/// Files that nobody can pay for at first.
pub fn preserve(session: &Session) -> Result<()> {
    session.preserve(cases::filled(SEED, BYTES)?, SMALL)?;
    session.preserve(cases::filled_huge(SEED, BYTES)?, HUGE)?;
    Ok(())
}

pub fn play(session: &RetrievedSession) -> Result<()> {
    mount("cgroup2", ROOT, "cgroup2", MountFlags::empty(), None).context("cannot mount cgroup2")?;
    machine::switch(&format!("{ROOT}/cgroup.subtree_control"), "+memory")?;
    fs::create_dir(POOR)?;
    machine::switch(&format!("{POOR}/memory.max"), &(BYTES / 2).to_string())?;
    machine::switch(&format!("{POOR}/memory.swap.max"), "0")?;
    machine::switch(&format!("{POOR}/cgroup.procs"), "0")?;

    let over = AtomicBool::new(false);
    let (mut tries, mut kills, mut others) = (0, 0, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| again(&over, "/proc/sys/vm/drop_caches", "5"));
        scope.spawn(|| again(&over, "/sys/kernel/debug/split_huge_pages", "1"));
        let begun = Instant::now();
        while begun.elapsed() < TRIES {
            match family::killed(session, [SMALL, HUGE], Duration::from_millis(kills % 20)) {
                Ok(()) => kills += 1,
                Err(error) => event::check("a child is killed", false, format!("{error:#}")),
            }
            for token in [SMALL, HUGE] {
                match errno(&session.retrieve(token)) {
                    libc::ENOMEM => tries += 1,
                    other => others.push(other),
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    event::check(
        "each retrieve over the limit of its cgroup fails, and can be tried again",
        tries > 3 && kills > 1 && others.is_empty(),
        format!("{tries} tries, {kills} kills; else errno {others:?}"),
    );
    machine::switch(&format!("{ROOT}/cgroup.procs"), "0")?;
    for token in [SMALL, HUGE] {
        let file = File::from(session.retrieve(token)?);
        let damage = cases::damage(&file, SEED, BYTES)?;
        event::check(
            "what was undone so often comes back whole",
            damage.is_none(),
            format!("{damage:?}"),
        );
    }
    Ok(())
}

fn again(over: &AtomicBool, path: &str, what: &str) {
    while !over.load(Ordering::Relaxed) {
        let _ = fs::write(path, what);
    }
}
