// SPDX-License-Identifier: GPL-2.0
//! luod and luoctl on a machine: services through updates, deaths of luod at each step, files, and
//! what many clients cost.

use super::{run, Played};
use crate::check::Check;
use crate::lab::{cargo, Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use Which::Ours;

/// A machine with the tools.
pub fn with_tools(lab: &Lab, machine: Machine) -> Machine {
    machine
        .file("bin/luod", &lab.programs.luod)
        .file("bin/luoctl", &lab.programs.luoctl)
}

/// The example service in C, which is also the test of its client.
fn counter(lab: &Lab) -> Result<PathBuf> {
    let root = kernel_tree::project_root();
    let program = lab.folder("luo-client")?.join("counter");
    let source = root.join("tools/luo-client/c");
    let mut compile = Command::new("gcc");
    compile
        .args(["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(root.join("uapi"))
        .args(["luo_client.c", "counter.c"].map(|name| source.join(name)));
    lab.steps.run("compiling the client in C", &mut compile)?;
    Ok(program)
}

/// Lines of the transcript that luoctl leaves on the console before it jumps.
fn transcript(outcome: &Outcome, generation: usize) -> Vec<String> {
    const PHASES: [&str; 7] = ["load", "ask", "service", "wait", "freeze", "check", "kexec"];
    let lines = outcome.console.generation(generation).iter();
    lines
        .filter(|line| {
            let mut words = line.split_whitespace();
            let phase = words.next().is_some_and(|word| PHASES.contains(&word));
            phase
                && words.next().is_some_and(|word| word.parse::<f64>().is_ok())
                && words.next() == Some("s")
        })
        .map(|line| line.trim().to_owned())
        .collect()
}

pub fn services(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "luod", Ours, &[Ours, Ours])
        .file("tests/cache", &lab.programs.cache)
        .file("tests/counter", counter(lab)?);
    let (mut played, outcome) = run(lab, &with_tools(lab, machine))?;
    let expected: [(usize, &[&str]); 2] = [
        (
            0,
            &[
                "load",
                "5 services are asked",
                "hung of user 0 is left out",
                "killed of user 0 is left out",
                "3 services are ready, 2 are left out",
                "luod's record names 3 sessions",
                "kexec",
            ],
        ),
        (
            1,
            &[
                "load",
                "3 services are asked",
                "3 services are ready, 0 are left out",
                "luod's record names 3 sessions",
                "kexec",
            ],
        ),
    ];
    for (generation, texts) in expected {
        let lines = transcript(&outcome, generation);
        // Updates that were called off come before.
        let last = lines
            .iter()
            .rposition(|line| line.starts_with("load"))
            .unwrap_or(0);
        let lines = lines.get(last..).unwrap_or_default();
        let missing: Vec<&&str> = texts
            .iter()
            .filter(|text| !lines.iter().any(|line| line.contains(**text)))
            .collect();
        played.checks.push(Check::new(
            format!("generation {generation}: luoctl's transcript tells it"),
            missing.is_empty(),
            match missing.is_empty() {
                true => lines.join(" | "),
                false => format!("{missing:?} is not in: {}", lines.join(" | ")),
            },
        ));
        let began = outcome.event(generation, "update").map(|event| event.at);
        let claimed = outcome
            .event(generation + 1, "last claim")
            .map(|event| event.at);
        let took = began
            .zip(claimed)
            .map(|(began, claimed)| claimed.saturating_sub(began));
        played.checks.push(Check::new(
            format!("generation {generation}: from luoctl update to the last claim"),
            took.is_some(),
            took.map_or(String::new(), |took| format!("{:.2} s", took.as_secs_f64())),
        ));
    }
    Ok(played)
}

pub fn killed(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "luod-killed", Ours, &[Ours]);
    Ok(run(lab, &with_tools(lab, machine))?.0)
}

pub fn clients(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = Machine::new(name, "luod-load", Ours, &[]);
    // Processor time is then a count of instructions: a nanosecond each.
    machine.icount = true;
    machine.cpus = 1;
    Ok(run(lab, &with_tools(lab, machine))?.0)
}

pub fn luoctl(lab: &Lab, name: &str) -> Result<Played> {
    let list = lab.folder(name)?.join("examples");
    let lines: String = luoctl::cli::examples()
        .into_iter()
        .map(|(line, after)| format!("{} {line}\n", if after { "after" } else { "before" }))
        .collect();
    std::fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
    let machine = Machine::new(name, "luoctl", Ours, &[Ours])
        .memory(3072)
        .timeout(400)
        .word(&format!("lu.size={}", 512u64 << 20))
        .file("tests/examples", list)
        .file("bin/busybox", Path::new("/bin/busybox"));
    Ok(run(lab, &with_tools(lab, machine))?.0)
}

pub fn deb(lab: &Lab, name: &str) -> Result<Played> {
    let folder = lab.folder(name)?;
    let mut make = cargo();
    make.args([
        "run",
        "--release",
        "-q",
        "-p",
        "packaging",
        "--",
        "deb",
        "--out",
    ])
    .arg(&folder);
    lab.steps.run("making the Debian package", &mut make)?;
    let package = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("no package was made")?;
    let machine = Machine::new(name, "deb", Ours, &[])
        .file("tests/luod.deb", package)
        .file("bin/busybox", Path::new("/bin/busybox"));
    Ok(run(lab, &machine)?.0)
}

/// Services must not cost much of an update: what they cost is small beside the kexec.
pub fn time(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = Machine::new(name, "luod-timed", Ours, &[Ours, Ours])
        .file("tests/cache", &lab.programs.cache)
        .file("tests/counter", counter(lab)?);
    machine.icount = true;
    machine.cpus = 1;
    let (mut played, outcome) = run(lab, &with_tools(lab, machine))?;
    let took = |generation| {
        let began = outcome.event(generation, "update")?.number("tsc");
        let claimed = outcome.event(generation + 1, "last claim")?.number("tsc");
        claimed.checked_sub(began)
    };
    let both = took(0).zip(took(1));
    played.checks.push(Check::new(
        "three services add less than a half to the time from luoctl update to the last claim",
        both.is_some_and(|(empty, services)| services < empty + empty / 2),
        both.map_or(String::new(), |(empty, services)| {
            format!(
                "{} ms of guest time with nobody, {} ms with three services, an instruction a nanosecond",
                empty / 1_000_000,
                services / 1_000_000
            )
        }),
    ));
    Ok(played)
}
