// SPDX-License-Identifier: GPL-2.0
//! The benchmark of numbers: many sessions, and many files in one session. A cost per item that
//! grows with their number is not linear.

use super::{about, measure, write_rows};
use crate::console::Console;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::path::Path;
use std::time::Instant;

/// Empty sessions, or files of a page each in one session.
#[derive(Clone, Copy)]
enum Row {
    Sessions(u64),
    Files(u64),
}

/// What is measured: its name here, the guest's name for it, and whether it is about sessions or
/// files.
const SESSION_STEPS: [&str; 6] = [
    "create",
    "serialise",
    "open",
    "retrieve sessions",
    "finish sessions",
    "kexec and boot",
];
const FILE_STEPS: [&str; 6] = [
    "preserve",
    "serialise",
    "open",
    "retrieve files",
    "finish files",
    "kexec and boot",
];

impl Row {
    fn count(self) -> u64 {
        match self {
            Self::Sessions(count) | Self::Files(count) => count,
        }
    }

    fn title(&self) -> String {
        match self {
            Self::Sessions(count) => format!("{count} empty sessions"),
            Self::Files(count) => format!("{count} files in one session"),
        }
    }

    fn steps(self) -> [&'static str; 6] {
        match self {
            Self::Sessions(_) => SESSION_STEPS,
            Self::Files(_) => FILE_STEPS,
        }
    }

    fn machine(&self, which: Which, number: usize) -> Machine {
        let name = format!("bench-sessions/{number}-{}", which.name());
        let count = match self {
            Self::Sessions(count) => format!("lu.sessions={count}"),
            Self::Files(count) => format!("lu.files={count}"),
        };
        // The first update hands over nothing.
        let mut machine = Machine::new(&name, "many", which, &[which, which])
            .memory(2048)
            .timeout(2400)
            .word(&count)
            // As in the other benchmark.
            .word("nokaslr quiet initcall_blacklist=kho_test_init");
        machine.cpus = 1;
        machine.icount = true;
        machine
    }
}

/// What one kernel needed for each step, in guest instructions.
#[derive(Clone)]
struct Cost {
    steps: Vec<(String, i64)>,
    release: String,
}

impl Cost {
    fn read(outcome: &Outcome) -> Result<Self> {
        if let Some(failure) = &outcome.failure {
            bail!("{failure}; see {}", outcome.log.display());
        }
        if outcome.event(2, "all").is_none_or(|event| !event.ok("ok")) {
            bail!("not all arrived; see {}", outcome.log.display());
        }
        let mut steps = Vec::new();
        for event in outcome.kind("phase") {
            steps.push((event.text("name").to_owned(), signed(event.number("ticks"))));
        }
        let reboot = |generation| {
            serialise(&outcome.console, generation).context("the console has no times of the jump")
        };
        steps.push(("serialise".to_owned(), reboot(1)? - reboot(0)?));
        let jump = |generation| {
            let ticks = outcome.downtime_ticks(generation);
            ticks
                .map(signed)
                .context("the guest did not report its jump")
        };
        steps.push(("kexec and boot".to_owned(), jump(1)? - jump(0)?));
        let boot = outcome.event(0, "boot");
        Ok(Self {
            steps,
            release: boot.map_or("", |event| event.text("release")).to_owned(),
        })
    }

    fn step(&self, name: &str) -> Option<i64> {
        let found = self.steps.iter().find(|(step, _)| step == name);
        found.map(|(_, ticks)| *ticks)
    }
}

fn signed(ticks: u64) -> i64 {
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

/// From the system call to the kernel's last line, by the times the console has: a microsecond is a
/// thousand instructions.
fn serialise(console: &Console, generation: usize) -> Option<i64> {
    let time = |text: &str| {
        let lines = console.generation(generation).iter();
        let line = lines.rev().find(|line| line.contains(text))?;
        let stamp = line.strip_prefix('[')?.split(']').next()?;
        let (seconds, micros) = stamp.trim().split_once('.')?;
        Some(seconds.parse::<i64>().ok()? * 1_000_000 + micros.parse::<i64>().ok()?)
    };
    Some((time("Starting new kernel")? - time("bench: reboot")?) * 1000)
}

type Measured = (Row, [Result<Cost, String>; 2]);

/// Measures, prints the table, writes the JSON. True if every run could be measured.
pub fn run(lab: &Lab, quick: bool, json: Option<&Path>) -> Result<bool> {
    let began = Instant::now();
    let rows: Vec<Row> = match quick {
        true => vec![Row::Sessions(1000), Row::Files(1000)],
        false => [1000, 2000, 10_000]
            .map(Row::Sessions)
            .into_iter()
            .chain([1000, 5000, 10_000].map(Row::Files))
            .collect(),
    };
    let costs = measure(lab, &rows, Row::title, Row::machine, Cost::read)?;
    let measured: Vec<Measured> = rows.iter().copied().zip(costs).collect();
    let releases = [0, 1].map(|place| {
        let cost = measured
            .iter()
            .find_map(|(_, costs)| costs[place].as_ref().ok());
        cost.map_or("unknown", |cost| &cost.release).to_owned()
    });
    let first = rows.first().map(|row| row.machine(Which::Ours, 0));
    let about = about(releases, first)?;
    for steps in [SESSION_STEPS, FILE_STEPS] {
        for step in steps {
            print(&measured, &steps, step);
        }
    }
    println!("kexec and boot: from the jump to the next /init, beyond an update with nothing in it; serialise: the same of the\nreboot system call up to \"Starting new kernel\", and a part of it. Files are memfds of a page.");
    println!("measured with");
    for (name, value) in &about {
        println!("  {name}: {value}");
    }
    for (row, costs) in &measured {
        for error in costs.iter().filter_map(|cost| cost.as_ref().err()) {
            println!("not measured: {}: {error}", row.title());
        }
    }
    println!("measured in {} s", began.elapsed().as_secs());
    if let Some(path) = json {
        let rows: Vec<Value> = measured.iter().map(as_json).collect();
        write_rows(path, &rows, &about)?;
    }
    Ok(measured
        .iter()
        .all(|(_, costs)| costs.iter().all(Result::is_ok)))
}

/// The table of one step, for sessions or for files.
fn print(measured: &[Measured], of: &[&str; 6], step: &str) {
    println!("{step}");
    println!(
        "  {:30} {:>12} {:>12} {:>9}  instructions an item",
        "million instructions", "ours", "mainline", "ratio"
    );
    for (row, costs) in measured.iter().filter(|(row, _)| row.steps() == *of) {
        let [ours, mainline] = [0, 1].map(|place| costs[place].as_ref().ok()?.step(step));
        let number = |value: Option<i64>, by: f64| {
            value.map_or("-".to_owned(), |value| format!("{:.1}", value as f64 / by))
        };
        let ratio = match (ours, mainline) {
            (Some(ours), Some(mainline)) if mainline > 0 && ours >= 0 => {
                format!("{:.3}", ours as f64 / mainline as f64)
            }
            _ => "-".to_owned(),
        };
        let count = row.count() as f64;
        println!(
            "  {:30} {:>12} {:>12} {ratio:>9}  {:>10} {:>10}",
            row.title(),
            number(ours, 1e6),
            number(mainline, 1e6),
            number(ours, count),
            number(mainline, count),
        );
    }
    println!();
}

fn as_json((row, costs): &Measured) -> Value {
    let cost = |place: usize| match &costs[place] {
        Err(error) => json!({"error": error}),
        Ok(cost) => row
            .steps()
            .iter()
            .map(|step| ((*step).to_owned(), json!(cost.step(step))))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    };
    json!({
        "row": row.title(),
        "count": row.count(),
        "ours": cost(0),
        "mainline": cost(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_has_the_times_of_the_jump() {
        let mut console = Console::default();
        for line in [
            "[    0.000000] Linux version 7.3.4 (kho@kho)",
            "[    1.999990] bench: reboot",
            "[    2.000015] kexec_core: Starting new kernel",
        ] {
            console.push(line);
        }
        assert_eq!(serialise(&console, 0), Some(25_000));
        assert_eq!(serialise(&console, 1), None);
    }
}
