// SPDX-License-Identifier: GPL-2.0
//! Who retrieves pays: the charge is the retriever's cgroup's, and one that cannot pay gets an error and changes nothing.

use super::{cases, errno};
use crate::{event, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::RetrievedSession;
use rustix::mount::{mount, MountFlags};
use std::fs::{self, File};

pub const SEED: u64 = 77;
pub const BYTES: u64 = 32 << 20;

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

    enter(&poor)?;
    let free = machine::free_bytes()?;
    let refused = errno(&session.retrieve(0));
    let lost = free.abs_diff(machine::free_bytes()?);
    let events = fs::read_to_string(format!("{poor}/memory.events"))?;
    let killed = events
        .lines()
        .any(|line| line.starts_with("oom_kill ") && !line.ends_with(" 0"));
    let charged = figure(&poor)?;
    event::check(
        "over the limit of its cgroup a retrieve fails with ENOMEM, and nobody is killed",
        refused == libc::ENOMEM && !killed,
        format!("errno {refused}, {}", events.replace('\n', ", ")),
    );
    event::check(
        "and is undone whole",
        lost < 2 << 20 && charged < REST,
        format!(
            "{} KiB of free memory, {} KiB charged",
            lost >> 10,
            charged >> 10
        ),
    );

    enter(&rich)?;
    let file = session.retrieve(0).map(File::from);
    let detail = file.as_ref().err().map(|error| error.to_string());
    let intact = match &file {
        Ok(file) => cases::damage(file, SEED, BYTES)?.is_none(),
        Err(_) => false,
    };
    event::check(
        "it can be tried again, by somebody who can pay",
        intact,
        detail.unwrap_or_default(),
    );
    let (paid, unpaid) = (figure(&rich)?, figure(&poor)?);
    event::check(
        "the retriever's cgroup is charged",
        (BYTES..BYTES + REST).contains(&paid) && unpaid < REST,
        format!("{} and {} KiB", paid >> 10, unpaid >> 10),
    );
    drop(file);
    enter(ROOT)
}

fn enter(cgroup: &str) -> Result<()> {
    machine::switch(&format!("{cgroup}/cgroup.procs"), "0")
}

fn figure(cgroup: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("{cgroup}/memory.current"))?;
    Ok(text.trim().parse()?)
}
