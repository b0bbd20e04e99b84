// SPDX-License-Identifier: GPL-2.0
//! One machine through many updates: random files, sessions, objects and services, verified by
//! every kernel on the way.

use super::{with_tools, Played};
use crate::check::Check;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::qemu;
use anyhow::Result;

/// Objects and array values of the kernel's own test beside the files.
const OBJECTS: &str = "test_objects.count=2000";
/// What an update takes at the most, on a machine that does other things as well.
const SECONDS_AN_UPDATE: u64 = 60;

/// Through `updates` updates from `which` to `which`, what happens on the way following from
/// `seed`.
pub fn updates(lab: &Lab, name: &str, which: Which, updates: u64, seed: u64) -> Result<Played> {
    let machine = Machine::new(name, "soak", which, &[which])
        .file("tests/cache", &lab.programs.cache)
        .timeout(120 + updates * SECONDS_AN_UPDATE)
        .word(OBJECTS)
        .word(&format!("lu.repeat={updates}"))
        .word(&format!("lu.seed={seed}"));
    let machine = with_tools(lab, machine);
    let outcome = qemu::run_watched(lab, &machine, |event| {
        if event.kind() == "round" && event.generation % 25 == 0 {
            lab.steps.say(&format!(
                "{name}: update {} of {updates} arrived with {} sessions",
                event.generation,
                event.number("sessions")
            ));
        }
    })?;
    let mut checks = vec![ended(&outcome, updates), quiet(&outcome)];
    checks.extend(outcome.kind("check").map(|event| {
        let name = format!("generation {}: {}", event.generation, event.text("name"));
        Check::new(name, event.ok("ok"), event.text("detail"))
    }));
    checks.push(objects(&outcome, updates));
    checks.push(swapped(&outcome));
    Ok(Played {
        checks,
        logs: vec![outcome.log],
    })
}

fn ended(outcome: &Outcome, updates: u64) -> Check {
    let rounds = outcome.kind("round").count() as u64;
    let done = outcome.failure.is_none() && rounds == updates + 1;
    let detail = format!("{} of {updates} updates", rounds.saturating_sub(1));
    let why = outcome.failure.as_deref().unwrap_or_default();
    Check::new(
        "every update arrived whole",
        done,
        format!("{detail} {why}"),
    )
}

fn quiet(outcome: &Outcome) -> Check {
    let trouble = outcome.console.trouble();
    Check::new(
        "no kernel complained",
        trouble.is_none(),
        trouble.unwrap_or_default(),
    )
}

/// The slabs and arrays of the kernel's own test, which each kernel verifies and changes.
fn objects(outcome: &Outcome, updates: u64) -> Check {
    let last = (1..=updates).find(|update| {
        let round = format!("test_objects: all are of round {}", update - 1);
        let generation = usize::try_from(*update).unwrap_or(usize::MAX);
        outcome.console.find(generation, &round).is_none()
    });
    Check::new(
        "preserved objects and arrays were right in each kernel",
        last.is_none(),
        last.map_or(String::new(), |update| format!("not after update {update}")),
    )
}

/// Some files were in swap when they were preserved.
fn swapped(outcome: &Outcome) -> Check {
    let values = outcome.kind("value");
    let swapped = values.filter(|event| event.text("name") == "swapped");
    let bytes: u64 = swapped.map(|event| event.number("value")).sum();
    Check::new(
        "some of it was in swap on the way",
        bytes > 0,
        format!("{} KiB", bytes >> 10),
    )
}
