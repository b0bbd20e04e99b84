// SPDX-License-Identifier: GPL-2.0
//! Corrupted handovers, by the names that kho/corrupt.rs gives them: what each must lead to, and what it leads to on mainline.

use super::Played;
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::qemu;
use anyhow::Result;
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

/// What concerns block sets: mainline's LUO, which sits on top for now, answers with a panic whoever
/// finds the fault.
const BLOCKS: &[&str] = &["block-count", "block-cycle"];

fn machine(name: &str, damage: &str, receiver: Which) -> Machine {
    let machine = Machine::new(
        &format!("{name}/{}-{damage}", receiver.name()),
        "hostile",
        Debug,
        &[receiver, Ours],
    )
    .word(&format!("lu.damage={damage}"))
    .timeout(60);
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

/// Every case, and those of block sets, on our kernel and on mainline's.
pub fn table(lab: &Lab) -> Result<bool> {
    println!("{:<22} {:<44} mainline", "corruption", "ours");
    let names = CASES
        .iter()
        .map(|case| case.name)
        .chain(BLOCKS.iter().copied());
    for damage in names {
        let mut found = Vec::new();
        for receiver in [Ours, Mainline] {
            let machine = machine("hostile-table", damage, receiver);
            found.push(verdict(&qemu::run(lab, &machine)?));
        }
        println!("{damage:<22} {:<44} {}", found[0], found[1]);
    }
    Ok(true)
}

/// What became of the receiving kernel.
fn verdict(outcome: &Outcome) -> String {
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
    } else if !updated {
        "boots, no further update"
    } else {
        return format!("boots, updates; memfd: {}", fate(outcome));
    };
    match reached {
        true => format!("{how} after boot"),
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
