// SPDX-License-Identifier: GPL-2.0
//! Corrupted handovers, by the names that kho/corrupt.rs gives them: what each must lead to, and
//! what it leads to on mainline.

use super::{hostile_luo, Played};
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::qemu;
use anyhow::{bail, Result};
use Which::{Debug, Mainline, Ours};

/// A corruption and what our kernel must say about it.
struct Case {
    name: &'static str,
    says: &'static str,
    /// Whether the handover is refused as a whole; otherwise it costs one item.
    whole: bool,
}

const fn refused(name: &'static str, says: &'static str) -> Case {
    Case {
        name,
        says,
        whole: true,
    }
}

const fn one_item(name: &'static str, says: &'static str) -> Case {
    Case {
        name,
        says,
        whole: false,
    }
}

const CASES: &[Case] = &[
    refused("bad-magic", "FDT is invalid"),
    refused("lying-totalsize", "FDT is invalid"),
    refused("missing-map", "no usable preserved-memory-map"),
    refused("node-outside-ram", "is outside usable memory"),
    refused("node-in-scratch", "is outside usable memory"),
    refused("node-loop", "is used twice"),
    refused("node-shared", "is used twice"),
    refused("key-order", "is preserved twice"),
    refused("not-a-key", "which is no key"),
    refused("overlapping-blocks", "is preserved twice"),
    refused("scratch-past-ram", "is not RAM"),
    one_item("vmalloc-cycle", "cannot restore vmalloc area"),
    one_item("unterminated-release", "release string is not terminated"),
    one_item("wild-subtree", "points outside memory"),
];

fn machine(name: &str, damage: &str, receiver: Which) -> Machine {
    let machine = Machine::new(
        &format!("{name}/{}-{damage}", receiver.name()),
        "hostile",
        Debug,
        &[receiver, Ours],
    )
    .word(&format!("lu.damage={damage}"))
    .timeout(120);
    match damage {
        // The decompressor trusts the list.
        "scratch-past-ram" => machine.word("nokaslr"),
        _ => machine,
    }
}

/// Every case on our kernel.
pub fn all(lab: &Lab, name: &str) -> Result<Played> {
    let mut played = Played::default();
    for case in CASES {
        let machine = machine(name, case.name, Ours);
        let outcome = qemu::run(lab, &machine)?;
        let mut checks = check::any_run(&machine, &outcome);
        checks.push(check::says(
            &outcome,
            1,
            "the kernel names the fault",
            &[case.says],
        ));
        let first = outcome.event(1, "first");
        let taken = first.is_some_and(|event| event.ok("taken"));
        checks.push(Check::new(
            "the fault costs what it must and no more",
            first.is_some() && taken != case.whole,
            fate(&outcome),
        ));
        let intact = outcome.event(2, "intact");
        checks.push(Check::new(
            "a clean update works afterwards",
            intact.is_some_and(|event| event.ok("ok")),
            "",
        ));
        for check in &mut checks {
            check.name = format!("{}: {}", case.name, check.name);
        }
        played.checks.extend(checks);
        played.logs.push(outcome.log);
    }
    Ok(played)
}

/// Every case, or those named, on our kernel and on mainline's.
pub fn table(lab: &Lab, names: &[String], mainline_only: bool) -> Result<bool> {
    let kho = CASES.iter().map(|case| (case.name, false));
    let luo = hostile_luo::names().map(|name| (name, true));
    let chosen: Vec<_> = kho
        .chain(luo)
        .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .collect();
    let receivers: &[Which] = if mainline_only {
        &[Mainline]
    } else {
        &[Ours, Mainline]
    };
    let mut columns = Vec::new();
    for receiver in receivers {
        // Two at a time, as the tests.
        let (first, second) = chosen.split_at(chosen.len().div_ceil(2));
        columns.push(std::thread::scope(|scope| {
            let other = scope.spawn(|| column(lab, second, *receiver));
            let mut found = column(lab, first, *receiver)?;
            match other.join() {
                Ok(rest) => found.extend(rest?),
                Err(_) => bail!("a thread died; its message is above"),
            }
            Ok(found)
        })?);
    }
    let line = |damage: &str, found: &[&str]| println!("{damage:<26} {}", found.join("  |  "));
    line(
        "corruption",
        &receivers
            .iter()
            .map(|which| which.name())
            .collect::<Vec<_>>(),
    );
    for (row, (damage, _)) in chosen.iter().enumerate() {
        let found: Vec<&str> = (columns.iter())
            .filter_map(|column| column.get(row).map(String::as_str))
            .collect();
        line(damage, &found);
    }
    Ok(true)
}

/// What one kernel makes of each.
fn column(lab: &Lab, cases: &[(&str, bool)], receiver: Which) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (damage, luo) in cases {
        let (machine, fate): (_, fn(&Outcome) -> String) = match luo {
            true => (
                hostile_luo::machine("hostile-table", damage, receiver),
                hostile_luo::fate,
            ),
            false => (machine("hostile-table", damage, receiver), |outcome| {
                format!("memfd: {}", fate(outcome))
            }),
        };
        let outcome = qemu::run(lab, &machine)?;
        let verdict = verdict(&outcome, &fate(&outcome));
        lab.steps
            .say(&format!("{} {damage}: {verdict}", receiver.name()));
        found.push(verdict);
    }
    Ok(found)
}

/// What became of the receiving kernel.
fn verdict(outcome: &Outcome, fate: &str) -> String {
    let said = |text: &str| outcome.console.find_said(1, text).is_some();
    let updated = outcome
        .event(2, "intact")
        .is_some_and(|event| event.ok("ok"));
    let reached = outcome.event(1, "boot").is_some();
    let how = if said("Kernel panic") {
        "panic"
    } else if said("Oops") || said("BUG:") {
        "oops"
    } else if !reached {
        match outcome.console.generation(1).is_empty() {
            true => "dead before its first word",
            false => "hang in boot",
        }
    } else {
        let warns = if said("WARNING:") { ", warns" } else { "" };
        return match updated {
            true => format!("boots, updates{warns}; {fate}"),
            false => format!("boots, no further update{warns}; {fate}"),
        };
    };
    match reached {
        true => format!("{how} after boot; {fate}"),
        false => how.to_owned(),
    }
}

fn fate(outcome: &Outcome) -> String {
    let first = outcome.event(1, "first");
    first.map_or_else(
        || "not asked".to_owned(),
        |event| event.text("fate").to_owned(),
    )
}
