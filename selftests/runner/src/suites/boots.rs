// SPDX-License-Identifier: GPL-2.0
//! The kernel's own tests, as they are: KUnit suites, selftests/liveupdate, selftests/kho.

use super::{run, Played};
use crate::check::{self, Check};
use crate::console;
use crate::ktap;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::testbuild;
use anyhow::Result;
use Which::{Mainline, Ours};

pub fn kunit(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "boot", Ours, &[])
        .word("kunit.enable=1 kunit.autorun=1")
        .word("kunit.autorun=1");
    let (mut played, outcome) = run(lab, &machine)?;
    let lines = outcome.console.generation(0).iter();
    let cases = ktap::cases(lines.map(|line| console::message(line)));
    let ours: Vec<_> = cases
        .iter()
        .filter(|case| {
            ["kho", "liveupdate", "luo"]
                .iter()
                .any(|of| case.suite.contains(of))
        })
        .collect();
    played.checks.push(Check::new(
        "KUnit ran suites of KHO",
        !ours.is_empty(),
        format!("{} cases", ours.len()),
    ));
    played.checks.extend(ours.iter().map(|case| {
        Check::new(
            format!("{}.{}", case.suite, case.name),
            case.passed,
            &*case.note,
        )
    }));
    Ok(played)
}

pub fn selftests(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = Machine::new(name, "selftests", Ours, &[Ours])
        .memory(2048)
        .timeout(240);
    machine.files = lab.selftests()?.liveupdate.clone();
    let (mut played, outcome) = run(lab, &machine)?;
    played.checks.extend(selftest_cases(&outcome));
    Ok(played)
}

/// Those of them that take stages, stage 1 in one kernel and stage 2 in the other, in both
/// directions.
pub fn across(lab: &Lab, name: &str, tests: &[&str]) -> Result<Played> {
    let mut all = Played::default();
    for (from, to) in [(Ours, Mainline), (Mainline, Ours)] {
        let direction = check::direction(from, to);
        let mut machine = Machine::new(&format!("{name}/{direction}"), "selftests", from, &[to])
            .memory(2048)
            .timeout(240)
            .word(&format!("lu.tests={}", tests.join(",")));
        machine.files = lab.selftests()?.liveupdate.clone();
        let (played, outcome) = run(lab, &machine)?;
        let ended = tests.len() * 2
            == (outcome.kind("check"))
                .filter(|event| event.text("name").contains(" stage "))
                .count();
        let complete = Check::new("both stages of each were run", ended, "");
        let checks = played.checks.into_iter().chain([complete]);
        let checks = checks.chain(check::flb(&outcome, 1));
        all.checks.extend(checks.map(|mut check| {
            check.name = format!("{direction}: {}", check.name);
            check
        }));
        all.logs.extend(played.logs);
    }
    Ok(all)
}

/// The cases of selftests/liveupdate that the guest ran.
pub fn selftest_cases(outcome: &Outcome) -> Vec<Check> {
    let lines = outcome
        .kind("line")
        .filter(|event| event.text("of") == testbuild::WITHIN)
        .map(|event| event.text("text"));
    let cases = ktap::cases(lines);
    let some = Check::new(
        "selftests/liveupdate ran its cases",
        !cases.is_empty(),
        format!("{} cases", cases.len()),
    );
    let each = cases
        .into_iter()
        .map(|case| Check::new(case.name, case.passed, case.note));
    std::iter::once(some).chain(each).collect()
}

/// selftests/kho brings its own /init, which live-updates at once. The kernel it comes to has no
/// /init and panics, which ends the machine.
pub fn kho_selftest(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = Machine::new(name, "none", Ours, &[]);
    machine.files = vec![
        ("init".to_owned(), lab.selftests()?.kho_init.clone()),
        ("kernel".to_owned(), lab.kernel(Ours)?.bzimage.clone()),
    ];
    let outcome = crate::qemu::run(lab, &machine)?;
    Ok(Played {
        checks: vec![check::says(
            &outcome,
            1,
            "the next kernel restores what lib/test_kho.c saved",
            &["KHO restore succeeded"],
        )],
        logs: vec![outcome.log],
    })
}
