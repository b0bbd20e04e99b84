// SPDX-License-Identifier: GPL-2.0
//! Every property of a memfd, every failure that must leave it as it was, and memfds that are hard
//! to carry.

use super::{run, Played};
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use anyhow::Result;
use Which::{Debug, Ours};

/// Through kernels of one kind.
pub fn properties(lab: &Lab, name: &str, which: Which, updates: usize) -> Result<Played> {
    let machine = Machine::new(name, "memfd", which, &vec![which; updates])
        .memory(1280)
        .timeout(400);
    let (played, _) = run(lab, &machine)?;
    Ok(played)
}

/// The same, where the newer version is hidden.
pub fn version_2(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "memfd", Ours, &[Ours])
        .memory(1280)
        .timeout(400)
        .word("liveupdate.hide=memfd:3");
    let (played, _) = run(lab, &machine)?;
    Ok(played)
}

/// What others do to the pages of files, with the windows between our steps made wide.
pub fn neighbours(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = Machine::new(name, "neighbours", Debug, &[Debug])
        .memory(1536)
        .timeout(240)
        .word("liveupdate.slow=5000");
    machine.cpus = 4;
    let (mut played, outcome) = run(lab, &machine)?;
    let named = "generation 0: the log names the file whose memory is bad";
    let lines = ["luo: session bad: the file with token 0x7 (memfd-v3) cannot be frozen: "];
    played.checks.push(check::says(&outcome, 0, named, &lines));
    let (cold, warm) = (
        outcome.value(0, "min_free"),
        outcome.value(1, "min_free at the end"),
    );
    played.checks.push(Check::new(
        "as much memory is kept free as after a cold boot",
        matches!((cold, warm), (Some(cold), Some(warm)) if cold.abs_diff(warm) <= cold / 20),
        format!("{cold:?} and {warm:?} KiB"),
    ));
    Ok(played)
}

/// Pages that lie in scratch when their memfd is preserved.
pub fn in_scratch(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "in-scratch", Ours, &[Ours]).memory(1280);
    let (played, _) = run(lab, &machine)?;
    Ok(played)
}

pub fn gigabyte(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "update", Ours, &[Ours])
        .memfds(1, 1024)
        .memory(2560);
    let (mut played, outcome) = run(lab, &machine)?;
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 1));
    Ok(played)
}
