// SPDX-License-Identifier: GPL-2.0
//! The selftests for a booted machine, `make -C selftests run_tests`: on this host, and in machines
//! where they have something to test.

use super::{run, Played};
use crate::check::Check;
use crate::ktap;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use anyhow::{Context, Result};
use std::process::Command;
use Which::{Mainline, Ours};

/// kselftest's exit code of what could not be tried.
const SKIPPED: u64 = 4;

pub fn play(lab: &Lab, name: &str) -> Result<Played> {
    let mut all = Played::default();
    for which in [Ours, Mainline] {
        let folder = format!("{name}/{}", which.name());
        let machine = Machine::new(&folder, "kselftest", which, &[])
            .memory(3072)
            .timeout(300);
        let (played, outcome) = run(lab, &machine)?;
        let cases = ktap::cases(lines(&outcome));
        let complete = Check::new(
            "as many cases as planned, and hardly one was left out",
            planned(&outcome) == Some(cases.len()) && cases.len() > 150,
            format!("{} cases", cases.len()),
        );
        let cases = cases
            .into_iter()
            .map(|case| Check::new(case.name, case.passed, case.note));
        let checks = played.checks.into_iter().chain(cases);
        let checks = checks.chain([complete, exit(&outcome, 0)]);
        all.checks.extend(checks.map(|mut check| {
            check.name = format!("{}: {}", which.name(), check.name);
            check
        }));
        all.logs.extend(played.logs);
    }
    let machine = Machine::new(&format!("{name}/absent"), "kselftest", Ours, &[])
        .word("liveupdate=off")
        .word("lu.absent=1");
    let (absent, outcome) = run(lab, &machine)?;
    all.checks.extend(absent.checks);
    all.logs.extend(absent.logs);
    let text: Vec<&str> = lines(&outcome).collect();
    all.checks.push(skipped("without live update", &text));
    all.checks.push(exit(&outcome, SKIPPED));
    all.checks.push(here()?);
    Ok(all)
}

/// What they printed.
fn lines(outcome: &Outcome) -> impl Iterator<Item = &str> {
    outcome.kind("line").map(|event| event.text("text"))
}

/// The number in the plan `1..N`.
fn planned(outcome: &Outcome) -> Option<usize> {
    lines(outcome)
        .find_map(|line| line.strip_prefix("1.."))
        .and_then(|number| number.parse().ok())
}

fn exit(outcome: &Outcome, wanted: u64) -> Check {
    let event = outcome.event(0, "exit");
    let code = event.map(|event| event.number("code"));
    Check::new(
        format!("the exit code is {wanted}"),
        code == Some(wanted),
        format!("{code:?}"),
    )
}

/// All of it is skipped, with a reason.
fn skipped(place: &str, text: &[&str]) -> Check {
    let reason = text
        .iter()
        .find_map(|line| line.strip_prefix("1..0 # SKIP "));
    Check::new(
        format!("{place} all is skipped, with a reason"),
        reason.is_some_and(|reason| !reason.is_empty()),
        reason.unwrap_or_default(),
    )
}

/// As a person runs them, on whatever this machine is: nothing fails.
fn here() -> Result<Check> {
    let output = Command::new("make")
        .args(["-C", "selftests", "run_tests"])
        .current_dir(kernel_tree::project_root())
        .env_remove("MAKEFLAGS")
        .output()
        .context("cannot run make")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.lines().any(|line| line.starts_with("TAP version "))
        && text.lines().any(|line| line.starts_with("1.."));
    let plan = text.lines().find(|line| line.starts_with("1.."));
    Ok(Check::new(
        "make -C selftests run_tests on this machine",
        told && output.status.success(),
        plan.unwrap_or_default(),
    ))
}
