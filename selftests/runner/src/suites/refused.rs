// SPDX-License-Identifier: GPL-2.0
//! Updates that must not happen: bad handovers, no room, KHO switched off. Each is refused with a
//! word, and the machine works.

use super::{run, Played};
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::qemu;
use anyhow::Result;
use Which::{Debug, Ours};

/// The second kernel gets a damaged root FDT, boots without it, and then updates to a third one
/// cleanly.
pub fn corrupt(lab: &Lab, name: &str, damage: &str) -> Result<Played> {
    let machine = Machine::new(name, "corrupt", Ours, &[Ours, Ours])
        .memfds(1, 32)
        .word("lu.maker=1")
        .word(&format!("lu.damage={damage}"));
    let (mut played, outcome) = run(lab, &machine)?;
    let why: &[&str] = match damage {
        "magic" => &["FDT is invalid", "handover FDT"],
        _ => &["incompatible with"],
    };
    played
        .checks
        .push(check::says(&outcome, 1, "the second kernel says why", why));
    played.checks.push(check::says(
        &outcome,
        1,
        "the second kernel boots without the handover",
        &["booting without it", "disabling KHO revival"],
    ));
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 2));
    Ok(played)
}

/// The FDT is changed after its checksum was made: that is logged, and has no effect but that of
/// the change itself.
pub fn overwritten(lab: &Lab, name: &str) -> Result<Played> {
    let machine =
        Machine::new(name, "hostile", Debug, &[Ours, Ours]).word("lu.damage=wild-subtree");
    let (mut played, outcome) = run(lab, &machine)?;
    let texts = ["metadata was overwritten after it was complete"];
    let says = |generation, name: &str| check::says(&outcome, generation, name, &texts);
    played.checks.push(says(
        1,
        "the second kernel says that metadata was overwritten",
    ));
    let third = says(2, "the third kernel has nothing to say");
    played
        .checks
        .push(Check::new(third.name, !third.passed, ""));
    let first = outcome.event(1, "first");
    played.checks.push(Check::new(
        "the handover is taken all the same",
        first.is_some_and(|event| event.ok("taken")),
        "",
    ));
    Ok(played)
}

pub fn off(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "boot", Ours, &[]).word("kho=off");
    let (mut played, outcome) = run(lab, &machine)?;
    let offers = outcome.event(0, "offers");
    for (what, field) in [
        ("/dev/liveupdate", "device"),
        ("debugfs kho/out", "debugfs"),
    ] {
        played.checks.push(Check::new(
            format!("there is no {what}"),
            offers.is_some_and(|event| !event.ok(field)),
            "",
        ));
    }
    Ok(played)
}

pub fn small_scratch(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "small-scratch", Ours, &[Ours]).word("kho_scratch=4M,4M,4M");
    let outcome = qemu::run(lab, &machine)?;
    // It stays in its first kernel.
    let alone = Machine {
        chain: Vec::new(),
        ..machine
    };
    let mut checks = check::any_run(&alone, &outcome);
    checks.push(check::says(
        &outcome,
        0,
        "the kernel says which number to raise",
        &["kho_scratch="],
    ));
    Ok(Played {
        checks,
        logs: vec![outcome.log],
    })
}

pub fn kdump(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "crash", Ours, &[Ours]).word("crashkernel=256M");
    let outcome = qemu::run(lab, &machine)?;
    // The crash is meant, so the console has complaints; what counts is where it ends.
    let mut checks: Vec<Check> = check::any_run(&machine, &outcome)
        .into_iter()
        .filter(|check| check.name == "ran to its end")
        .collect();
    checks.push(check::says(
        &outcome,
        1,
        "the crash kernel says that KHO is disabled",
        &["off: this is a crash kernel"],
    ));
    checks.push(Check::new(
        "the crash kernel has no /dev/liveupdate",
        outcome
            .event(1, "offers")
            .is_some_and(|event| !event.ok("device")),
        "",
    ));
    Ok(Played {
        checks,
        logs: vec![outcome.log],
    })
}
