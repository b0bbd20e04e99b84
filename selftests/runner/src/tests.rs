// SPDX-License-Identifier: GPL-2.0
//! All tests: which there are, two at a time, and the count at the end.

use crate::check::Check;
use crate::lab::Lab;
use crate::suites::{self, Played, Scenario};
use anyhow::{bail, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Instant;

/// Machines that run at the same time: the smallest hosts have two processors.
const AT_ONCE: usize = 2;

pub fn list() {
    for scenario in suites::ALL.iter().chain(suites::WITH_KASAN) {
        println!("{:28} {}", scenario.name, scenario.about);
    }
}

/// The scenarios with these names, or all; those of the address sanitizer with `KASAN=1`.
pub fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        let kasan = std::env::var("KASAN").is_ok_and(|value| value == "1");
        let more: &[Scenario] = if kasan { suites::WITH_KASAN } else { &[] };
        return Ok(suites::ALL.iter().chain(more).collect());
    }
    let all = suites::ALL.iter().chain(suites::WITH_KASAN);
    let find = |name: &String| match all.clone().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario),
        None => bail!("there is no test \"{name}\"; `runner list` names them"),
    };
    names.iter().map(find).collect()
}

/// Totals, and what failed, so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
}

/// Runs the scenarios; true if nothing failed.
pub fn run(lab: &Lab, chosen: Vec<&'static Scenario>) -> Result<bool> {
    let began = Instant::now();
    let count = chosen.len();
    // Kernels first: built while machines run, they would make both slow.
    let mut kernels: Vec<_> = chosen
        .iter()
        .flat_map(|scenario| scenario.kernels)
        .collect();
    kernels.sort_unstable();
    kernels.dedup();
    for which in kernels {
        lab.kernel(*which)?;
    }
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| loop {
                let Some(scenario) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                let play = || (scenario.play)(lab, scenario.name);
                let report = report(lab, scenario.name, play);
                if let Ok(mut tally) = tally.lock() {
                    let done = next.load(Ordering::Relaxed).min(count);
                    report.print(&mut tally, &format!("{done}/{count}"));
                }
            });
        }
    });
    let Ok(tally) = tally.into_inner() else {
        bail!("a test thread died; its message is above");
    };
    println!();
    for line in &tally.failed {
        println!("not ok: {line}");
    }
    println!(
        "{} scenarios in {} s, logs in {}",
        count,
        began.elapsed().as_secs(),
        lab.work.display()
    );
    println!("{} passed, {} failed", tally.passed, tally.failed.len());
    Ok(tally.failed.is_empty())
}

/// Runs what is no scenario of the list, and counts as for those; true if nothing failed.
pub fn run_one(
    lab: &Lab,
    name: &'static str,
    play: impl FnOnce() -> Result<Played>,
) -> Result<bool> {
    let mut tally = Tally::default();
    report(lab, name, play).print(&mut tally, "1/1");
    println!("{} passed, {} failed", tally.passed, tally.failed.len());
    Ok(tally.failed.is_empty())
}

/// What one scenario gave.
struct Report {
    name: &'static str,
    checks: Vec<Check>,
    seconds: f64,
    logs: Vec<PathBuf>,
}

fn report(lab: &Lab, name: &'static str, play: impl FnOnce() -> Result<Played>) -> Report {
    lab.steps.say(&format!("{name} ..."));
    let began = Instant::now();
    let (checks, logs) = match play() {
        Ok(result) => (result.checks, result.logs),
        Err(error) => (
            vec![Check::new("could be run", false, format!("{error:#}"))],
            Vec::new(),
        ),
    };
    Report {
        name,
        checks,
        seconds: began.elapsed().as_secs_f64(),
        logs,
    }
}

impl Report {
    fn print(self, tally: &mut Tally, place: &str) {
        let name = self.name;
        println!("# {name} ({:.1} s) {place}", self.seconds);
        let mut failed = false;
        for check in &self.checks {
            let number = tally.passed + tally.failed.len() + 1;
            let detail = match check.detail.trim() {
                "" => String::new(),
                detail => format!(" # {detail}"),
            };
            if check.passed {
                tally.passed += 1;
                println!("ok {number} {name}: {}{detail}", check.name);
            } else {
                failed = true;
                tally.failed.push(format!("{name}: {}{detail}", check.name));
                println!("not ok {number} {name}: {}{detail}", check.name);
            }
        }
        if failed {
            for log in &self.logs {
                println!("# log: {}", log.display());
            }
        }
    }
}
