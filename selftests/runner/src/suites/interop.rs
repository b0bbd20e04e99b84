// SPDX-License-Identifier: GPL-2.0
//! Ours and mainline's kernels, from each to each that has ours on one side: what goes across, as
//! checks and as a table.

use super::{run, Played};
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use anyhow::Result;
use Which::{Mainline, Older, Ours};

/// From and to. What mainline's kernels do among themselves is not ours to test.
const PAIRS: [(Which, Which); 5] = [
    (Older, Ours),
    (Mainline, Ours),
    (Ours, Ours),
    (Ours, Mainline),
    (Ours, Older),
];

/// The table's columns: the word by which a check is found to belong to one, and its title. The
/// last one takes the rest.
const COLUMNS: [(&str, &str); 5] = [
    ("memfd", "memfds"),
    ("session", "sessions"),
    ("reserve_mem", "reserve_mem"),
    ("metadata", "metadata"),
    ("", "all else"),
];

/// Of the `reserve_mem` region and the large memfds.
const MEMFDS: u64 = 2;
const MEMFD_MIB: u64 = 32;

/// One update from a kernel to another.
struct Crossing {
    played: Played,
    /// A cell a column.
    cells: [String; COLUMNS.len()],
    releases: [String; 2],
}

/// One pair as a scenario.
pub fn pair(lab: &Lab, name: &str, from: Which, to: Which) -> Result<Played> {
    debug_assert_eq!(name, check::direction(from, to));
    Ok(cross(lab, from, to)?.played)
}

/// Plays all pairs and prints the table; true if all of it went across.
pub fn table(lab: &Lab) -> Result<bool> {
    for which in [Ours, Mainline, Older] {
        lab.kernel(which)?;
    }
    let mut rows = vec![["from", "to"]
        .into_iter()
        .chain(COLUMNS.map(|(_, title)| title))
        .map(str::to_owned)
        .collect::<Vec<_>>()];
    let mut bad = Vec::new();
    for (from, to) in PAIRS {
        let direction = check::direction(from, to);
        lab.steps.say(&format!("{direction} ..."));
        let crossing = cross(lab, from, to)?;
        let names = [from, to].into_iter().zip(crossing.releases);
        let names = names.map(|(which, release)| format!("{} {release}", called(which)));
        rows.push(names.chain(crossing.cells).collect());
        let failed = crossing.played.checks.iter().filter(|check| !check.passed);
        bad.extend(failed.map(|check| format!("{direction}: {}: {}", check.name, check.detail)));
        for log in crossing.played.logs {
            lab.steps
                .say(&format!("the console is in {}", log.display()));
        }
    }
    print(&rows);
    for line in &bad {
        println!("not ok: {line}");
    }
    Ok(bad.is_empty())
}

/// What people call it.
fn called(which: Which) -> &'static str {
    match which {
        Mainline | Older => "mainline",
        other => other.name(),
    }
}

/// The rows, each column as wide as its widest cell.
fn print(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

/// Memfds, sessions, a region, and what the kernel's own tests save, from one kernel to another.
fn cross(lab: &Lab, from: Which, to: Which) -> Result<Crossing> {
    let machine = Machine::new(&check::direction(from, to), "interop", from, &[to])
        .memfds(MEMFDS, MEMFD_MIB)
        .region();
    let (mut played, outcome) = run(lab, &machine)?;
    played.checks.extend(check::all_arrived(&machine, &outcome));
    // Bound to the memfds.
    played.checks.extend(check::flb(&outcome, 1));
    let sessions = outcome.value(1, "sessions");
    played.checks.push(Check::new(
        "all sessions were looked at",
        sessions.is_some(),
        sessions.map_or_else(String::new, |sessions| format!("{} in all", sessions + 1)),
    ));
    let release = |generation| {
        let boot = outcome.event(generation, "boot");
        boot.map_or("", |event| event.text("release")).to_owned()
    };
    Ok(Crossing {
        cells: cells(&played.checks, &outcome),
        releases: [release(0), release(1)],
        played,
    })
}

/// The column of a check, by its name.
fn column(check: &Check) -> usize {
    let found = COLUMNS
        .iter()
        .position(|(word, _)| check.name.contains(word));
    found.unwrap_or(COLUMNS.len() - 1)
}

fn cells(checks: &[Check], outcome: &Outcome) -> [String; COLUMNS.len()] {
    let value = |name| outcome.value(1, name).unwrap_or(0);
    let region = outcome.event(1, "region");
    let good = [
        format!(
            "{}, {} MiB",
            value("files") + MEMFDS,
            outcome
                .event(1, "intact")
                .map_or(0, |event| event.number("bytes"))
                >> 20
        ),
        format!("{}", value("sessions") + 1),
        format!(
            "{} MiB",
            region.map_or(0, |event| event.number("bytes")) >> 20
        ),
        outcome
            .console
            .find(1, "exec from: ")
            .and_then(|line| line.split_once("exec from: "))
            .map_or_else(String::new, |(_, said)| format!("from {said}")),
        "ok".to_owned(),
    ];
    let mut place = 0..;
    good.map(|good| {
        let at = place.next().unwrap_or(0);
        let mut mine = checks.iter().filter(|check| column(check) == at).peekable();
        match mine.peek().is_some() && mine.all(|check| check.passed) {
            true => good,
            false => "FAILED".to_owned(),
        }
    })
}
