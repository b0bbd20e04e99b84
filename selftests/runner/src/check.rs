// SPDX-License-Identifier: GPL-2.0
//! Checks on an outcome: what must be true of any run, and of a live update in particular.

use crate::lab::Which;
use crate::machine::Machine;
use crate::outcome::Outcome;

/// One numbered test of the summary.
pub struct Check {
    pub name: String,
    pub passed: bool,
    /// What was seen, or what went wrong.
    pub detail: String,
}

impl Check {
    pub fn new(name: impl Into<String>, passed: bool, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            passed,
            detail: detail.into(),
        }
    }
}

/// It ran to its end through all its kernels, none of them complained, and what the guest checked
/// itself was right.
pub fn any_run(machine: &Machine, outcome: &Outcome) -> Vec<Check> {
    let kernels = machine.chain.len() + 1;
    let booted = outcome.kind("boot").count();
    let ended = match &outcome.failure {
        Some(failure) => Check::new("ran to its end", false, failure.clone()),
        None => Check::new(
            "ran to its end",
            booted == kernels,
            format!("{booted} of {kernels} kernels reached userspace"),
        ),
    };
    let trouble = outcome.console.trouble();
    let quiet = Check::new(
        "no kernel complained",
        trouble.is_none(),
        trouble.unwrap_or_default(),
    );
    let own = outcome.kind("check").map(|event| {
        let name = format!("generation {}: {}", event.generation, event.text("name"));
        Check::new(name, event.ok("ok"), event.text("detail"))
    });
    [ended, quiet].into_iter().chain(own).collect()
}

/// What holds in every generation that a clean update led to, the first of them being `from`.
pub fn update_from(machine: &Machine, outcome: &Outcome, from: usize) -> Vec<Check> {
    let mut checks = Vec::new();
    for generation in from..=machine.chain.len() {
        let mut check = |name: &str, passed: bool, detail: String| {
            checks.push(Check::new(
                format!("generation {generation}: {name}"),
                passed,
                detail,
            ));
        };
        let intact = outcome.event(generation, "intact");
        check(
            "every page of the memfds is intact",
            intact.is_some_and(|event| event.ok("ok")),
            intact.map_or("nothing was verified".into(), |event| {
                match event.ok("ok") {
                    true => format!("{} MiB", event.number("bytes") >> 20),
                    false => event.text("detail").to_owned(),
                }
            }),
        );
        let release = outcome
            .event(generation - 1, "boot")
            .map_or("", |event| event.text("release"));
        let wanted = format!("exec from: {release} (count {})", generation - from + 1);
        let line = outcome.console.find(generation, "exec from: ");
        check(
            "the metadata names the kernel before and counts the updates",
            line.is_some_and(|line| line.contains(&wanted)),
            line.map_or(format!("no line \"{wanted}\""), str::to_owned),
        );
        let changed = outcome.console.find(generation, "metadata was overwritten");
        check(
            "the metadata is as it was when it was complete",
            changed.is_none(),
            changed.unwrap_or_default().to_owned(),
        );
    }
    checks
}

/// The `reserve_mem` region is where it was, with what was in it.
pub fn region(machine: &Machine, outcome: &Outcome) -> Vec<Check> {
    (1..=machine.chain.len())
        .map(|generation| {
            let place = |generation| outcome.value(generation, "region start");
            let event = outcome.event(generation, "region");
            let passed = event.is_some_and(|event| event.ok("ok"))
                && place(generation).is_some()
                && place(generation) == place(0);
            let detail = match event {
                None => "nothing was verified".to_owned(),
                Some(event) if !event.ok("ok") => event.text("detail").to_owned(),
                Some(_) => format!("at {:#x}", place(generation).unwrap_or(0)),
            };
            Check::new(
                format!(
                    "generation {generation}: the reserve_mem region is intact and in its place"
                ),
                passed,
                detail,
            )
        })
        .collect()
}

/// lib/test_kho.c: what a kernel saves, the next one restores. A kernel that restored saves
/// nothing, so it is every other one.
pub fn test_kho(machine: &Machine, outcome: &Outcome) -> Vec<Check> {
    (1..=machine.chain.len())
        .step_by(2)
        .map(|generation| {
            let line = outcome.console.find(generation, "KHO restore ");
            Check::new(
                format!("generation {generation}: lib/test_kho.c restores what it saved"),
                line.is_some_and(|line| line.contains("KHO restore succeeded")),
                line.unwrap_or("no word of it in dmesg"),
            )
        })
        .collect()
}

/// lib/tests/liveupdate.c: three objects that live as long as files do arrived, were given up with
/// the last file, and nothing was wrong on either side.
pub fn flb(outcome: &Outcome, generation: usize) -> Vec<Check> {
    const OBJECTS: usize = 3;
    let lines = |generation: usize| {
        let lines = outcome.console.generation(generation).iter();
        lines.filter(|line| line.contains("liveupdate test: "))
    };
    let mut checks: Vec<Check> = [
        "found flb data from the previous boot",
        "finish was triggered",
    ]
    .map(|text| {
        let count = lines(generation).filter(|line| line.contains(text)).count();
        Check::new(
            format!("generation {generation}: lib/tests/liveupdate.c: {text}"),
            count == OBJECTS,
            format!("{count} of {OBJECTS} objects"),
        )
    })
    .into();
    let wrong = (0..=generation)
        .flat_map(lines)
        .find(|line| ["ERROR", "ailed"].iter().any(|bad| line.contains(bad)));
    checks.push(Check::new(
        format!("up to generation {generation}: lib/tests/liveupdate.c finds nothing wrong"),
        wrong.is_none(),
        wrong.map_or("", String::as_str),
    ));
    checks
}

/// All that a machine with memfds and a region hands over arrives in every generation, and so does
/// what `lib/test_kho.c` saved.
pub fn all_arrived(machine: &Machine, outcome: &Outcome) -> Vec<Check> {
    let mut checks = update_from(machine, outcome, 1);
    checks.extend(region(machine, outcome));
    checks.extend(test_kho(machine, outcome));
    checks
}

/// A line that a kernel must print.
pub fn says(outcome: &Outcome, generation: usize, name: &str, texts: &[&str]) -> Check {
    let line = texts
        .iter()
        .find_map(|text| outcome.console.find_said(generation, text));
    let missing = || format!("no line with \"{}\"", texts.join("\" or \""));
    Check::new(
        name,
        line.is_some(),
        line.map_or_else(missing, str::to_owned),
    )
}

/// A title for the direction of an update.
pub fn direction(from: Which, to: Which) -> String {
    format!("{}-to-{}", from.name(), to.name())
}
