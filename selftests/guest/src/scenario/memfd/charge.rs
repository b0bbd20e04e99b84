// SPDX-License-Identifier: GPL-2.0
//! Who retrieves pays: the charge is the retriever's cgroup's, and one that cannot pay gets an
//! error and changes nothing.

use super::{cases, errno};
use crate::{event, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{RetrievedSession, Session};
use rustix::mount::{mount, MountFlags};
use std::fs::{self, File};

const SEED: u64 = 77;
const BYTES: u64 = 32 << 20;
const SMALL: u64 = 0;
const HUGE: u64 = 1;
const FILES: [(u64, &str); 2] = [(SMALL, "small pages"), (HUGE, "huge pages")];
const LARGE: [(u64, &str); 2] = [(SMALL + 2, "small pages"), (HUGE + 2, "huge pages")];

/// Those that are retrieved where there is no room, and then where there is; and those that are
/// retrieved where there is swap.
pub fn preserve(session: &Session) -> Result<()> {
    for token in [SMALL, SMALL + 2] {
        session.preserve(cases::filled(SEED, BYTES)?, token)?;
    }
    for token in [HUGE, HUGE + 2] {
        session.preserve(cases::filled_huge(SEED, BYTES)?, token)?;
    }
    Ok(())
}

const ROOT: &str = "/sys/fs/cgroup";
/// What a process and its page tables take beside the file.
const REST: u64 = 4 << 20;

pub fn check(session: &RetrievedSession) -> Result<()> {
    mount("cgroup2", ROOT, "cgroup2", MountFlags::empty(), None).context("cannot mount cgroup2")?;
    machine::switch(&format!("{ROOT}/cgroup.subtree_control"), "+memory")?;
    let [poor, rich] = ["poor", "rich"].map(|name| format!("{ROOT}/{name}"));
    fs::create_dir(&poor)?;
    fs::create_dir(&rich)?;
    machine::switch(&format!("{poor}/memory.max"), &(BYTES / 2).to_string())?;
    machine::switch(&format!("{poor}/memory.swap.max"), "0")?;

    for (token, of) in FILES {
        refused(session, token, of, &poor)?;
    }
    enter(&rich)?;
    let mut files = Vec::new();
    for (token, of) in FILES {
        let file = session.retrieve(token).map(File::from);
        let intact = match &file {
            Ok(file) => cases::damage(file, SEED, BYTES)?.is_none(),
            Err(_) => false,
        };
        event::check(
            &format!("a file of {of} can be tried again, by somebody who can pay"),
            intact,
            file.as_ref()
                .err()
                .map_or_else(String::new, |error| error.to_string()),
        );
        files.extend(file);
    }
    with_swap(session)?;
    let (paid, unpaid) = (figure(&rich)?, figure(&poor)?);
    let all = BYTES * FILES.len() as u64;
    event::check(
        "the retriever's cgroup is charged",
        (all..all + REST).contains(&paid) && unpaid < REST,
        format!("{} and {} KiB", paid >> 10, unpaid >> 10),
    );
    drop(files);
    enter(ROOT)
}

/// Who may have the rest in swap gets a file that is larger than his memory.
fn with_swap(session: &RetrievedSession) -> Result<()> {
    let swapping = format!("{ROOT}/swapping");
    fs::create_dir(&swapping)?;
    machine::switch(&format!("{swapping}/memory.max"), &(BYTES / 2).to_string())?;
    for (token, of) in LARGE {
        enter(&swapping)?;
        let file = session.retrieve(token).map(File::from);
        let charged = figure(&swapping)?;
        enter(ROOT)?;
        let trouble = match &file {
            Ok(file) => cases::damage(file, SEED, BYTES)?.map(|at| format!("byte {at} is wrong")),
            Err(error) => Some(error.to_string()),
        };
        event::check(
            &format!("a file of {of} that is larger than its cgroup's memory comes back where there is swap"),
            trouble.is_none() && charged <= BYTES / 2,
            format!("{} KiB charged; {trouble:?}", charged >> 10),
        );
    }
    Ok(())
}

/// Who cannot pay gets an error, and nothing else happens.
fn refused(session: &RetrievedSession, token: u64, of: &str, poor: &str) -> Result<()> {
    enter(poor)?;
    let free = machine::free_bytes()?;
    let refused = errno(&session.retrieve(token));
    let lost = free.abs_diff(machine::free_bytes()?);
    let events = fs::read_to_string(format!("{poor}/memory.events"))?;
    let killed = events
        .lines()
        .any(|line| line.starts_with("oom_kill ") && !line.ends_with(" 0"));
    let charged = figure(poor)?;
    event::check(
        &format!("a file of {of}: over the limit of its cgroup a retrieve fails with ENOMEM, and nobody is killed"),
        refused == libc::ENOMEM && !killed,
        format!("errno {refused}, {}", events.replace('\n', ", ")),
    );
    event::check(
        &format!("a file of {of}: and is undone whole"),
        lost < 2 << 20 && charged < REST,
        format!(
            "{} KiB of free memory, {} KiB charged",
            lost >> 10,
            charged >> 10
        ),
    );
    Ok(())
}

fn enter(cgroup: &str) -> Result<()> {
    machine::switch(&format!("{cgroup}/cgroup.procs"), "0")
}

fn figure(cgroup: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("{cgroup}/memory.current"))?;
    Ok(text.trim().parse()?)
}
