// SPDX-License-Identifier: GPL-2.0
//! The benchmark of preservation primitives: the same records through an update with each of them,
//! what each step costs, and how much memory.

use super::{about, write_rows};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::qemu;
use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::path::Path;
use std::time::Instant;

/// Beside the records: scratch, kernel, initramfs.
const REST_MIB: u64 = 1024;

/// So many records of one size, carried by one kind of `tests/test_primitives.c`.
#[derive(Clone, Copy)]
struct Row {
    kind: &'static str,
    bytes: u64,
    count: u64,
}

impl Row {
    fn title(&self) -> String {
        format!("{}, {} of {} bytes", self.kind, self.count, self.bytes)
    }

    fn machine(&self, number: usize) -> Machine {
        let record = match self.kind {
            "page" => 4096,
            _ => self.bytes,
        };
        // The records with what leads to them, and as much again; for pages a sixteenth.
        let records = (self.count * (record + 16)) >> 20;
        let memory = match self.kind {
            "page" => records + records / 16,
            _ => 2 * records,
        };
        // The second update hands over nothing: what is left of it is what any update costs.
        let mut machine = Machine::new(
            &format!("bench-primitives/{number}"),
            "update",
            Which::Ours,
            &[Which::Ours, Which::Ours],
        )
        .memfds(0, 0)
        .memory(REST_MIB + memory)
        .timeout(1500)
        .word(&format!("test_primitives.kind={}", self.kind))
        .word(&format!("test_primitives.count={}", self.count))
        .word(&format!("test_primitives.size={}", self.bytes))
        // As in the other benchmarks; but what the kernel says is wanted.
        .word("nokaslr initcall_blacklist=kho_test_init");
        machine.cpus = 1;
        machine.icount = true;
        machine
    }
}

/// The rows: many records of a usual size; those of LUO's and memfds' size; numbers.
fn rows(quick: bool) -> Vec<Row> {
    let (many, fewer) = if quick {
        (100_000, 20_000)
    } else {
        (1_000_000, 100_000)
    };
    let mut rows = Vec::new();
    let mut add = |kinds: &[&'static str], bytes, count| {
        rows.extend(kinds.iter().map(|kind| Row { kind, bytes, count }));
    };
    let all = ["slab", "array", "page", "vmalloc", "vmalloc-huge", "block"];
    add(&all, 64, many);
    add(&["array-inline"], 8, many);
    // A record of memfd 2, an extent of memfd 3, a session of LUO. A file of LUO has 64 bytes.
    for bytes in [16, 24, 80] {
        add(&["slab", "array", "vmalloc", "block"], bytes, fewer);
    }
    add(&["array-inline"], 16, fewer);
    rows
}

/// What one kind needed for all records: guest instructions, and bytes.
struct Cost {
    make: i64,
    restore: i64,
    walk: i64,
    give_back: i64,
    /// From the jump to the next /init, without what the test did there, beyond an update with
    /// nothing.
    boot: i64,
    /// Free memory that making took, and that restoring took beside it.
    bytes: i64,
    restored_bytes: i64,
    /// To write and to verify the same in one place.
    fill: i64,
    verify: i64,
    /// To zero a page.
    zero: i64,
    release: String,
}

impl Cost {
    fn read(outcome: &Outcome) -> Result<Self> {
        if let Some(failure) = &outcome.failure {
            bail!("{failure}; see {}", outcome.log.display());
        }
        let figure = |generation, line: &str, name: &str| {
            let text = outcome
                .console
                .find(generation, &format!("test_primitives: {line} "));
            text.and_then(|text| value(text, name)).with_context(|| {
                format!(
                    "kernel {generation} does not say {name} of \"{line}\"; see {}",
                    outcome.log.display()
                )
            })
        };
        if figure(0, "content", "ok")? != 1 {
            bail!("a record cannot be verified; see {}", outcome.log.display());
        }
        let boot = |generation| {
            let ticks = outcome.downtime_ticks(generation);
            let ticks = ticks.context("the guest did not report its jump")?;
            let test = figure(generation + 1, "done", "ticks")?;
            Ok::<i64, anyhow::Error>(i64::try_from(ticks)? - test)
        };
        Ok(Self {
            make: figure(0, "made", "make")?,
            restore: figure(1, "arrived", "restore")?,
            walk: figure(1, "arrived", "walk")?,
            give_back: figure(1, "arrived", "give_back")?,
            boot: boot(0)? - boot(1)?,
            bytes: figure(0, "made", "bytes")?,
            restored_bytes: figure(1, "arrived", "took")?,
            fill: figure(0, "content", "fill")?,
            verify: figure(0, "content", "verify")?,
            zero: figure(0, "content", "zero")?,
            release: outcome
                .event(0, "boot")
                .map_or("", |event| event.text("release"))
                .to_owned(),
        })
    }
}

/// The number behind `name=` in a line.
fn value(line: &str, name: &str) -> Option<i64> {
    let words = line.split_whitespace();
    let mut values = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    values.next()?.parse().ok()
}

type Measured = (Row, Result<Cost, String>);

/// Measures, prints the table, writes the JSON. True if every run could be measured.
pub fn run(lab: &Lab, quick: bool, only: Option<&str>, json: Option<&Path>) -> Result<bool> {
    let began = Instant::now();
    let mut rows = rows(quick);
    rows.retain(|row| only.is_none_or(|only| row.title().contains(only)));
    if rows.is_empty() {
        bail!(
            "no line has \"{}\" in it; they read like \"slab, 1000000 of 64 bytes\"",
            only.unwrap_or_default()
        );
    }
    lab.kernel(Which::Ours)?;
    let mut measured: Vec<Measured> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        lab.steps.say(&format!(
            "{} of {}: {}",
            number + 1,
            rows.len(),
            row.title()
        ));
        let cost = qemu::run(lab, &row.machine(number)).and_then(|outcome| Cost::read(&outcome));
        measured.push((*row, cost.map_err(|error| format!("{error:#}"))));
    }
    let release = measured.iter().find_map(|(_, cost)| cost.as_ref().ok());
    let release = release.map_or("unknown", |cost| &cost.release);
    let machine = rows.first().map(|row| row.machine(0));
    // Mainline's kernel has no slab and no array: it takes no part.
    let mut about = about([release.to_owned(), String::new()], machine)?;
    about.retain(|(name, _)| *name != "mainline");
    print(&measured, &about);
    println!("measured in {} s", began.elapsed().as_secs());
    if let Some(path) = json {
        let rows: Vec<Value> = measured.iter().map(as_json).collect();
        write_rows(path, &rows, &about)?;
    }
    Ok(measured.iter().all(|(_, cost)| cost.is_ok()))
}

fn print(measured: &[Measured], about: &[(&str, String)]) {
    println!("instructions a record, and bytes");
    println!(
        "  {:12} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "kind",
        "size",
        "records",
        "preserve",
        "boot",
        "restore",
        "walk",
        "give back",
        "bytes",
        "restored"
    );
    let mut sizes: Vec<(u64, f64, f64)> = Vec::new();
    for (row, cost) in measured {
        let Ok(cost) = cost else { continue };
        let each = |total: i64| total as f64 / row.count as f64;
        println!(
            "  {:12} {:>6} {:>9} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.2} {:>9.2}",
            row.kind,
            row.bytes,
            row.count,
            each(cost.make),
            each(cost.boot),
            each(cost.restore),
            each(cost.walk),
            each(cost.give_back),
            each(cost.bytes),
            each(cost.restored_bytes),
        );
        if !sizes.iter().any(|(bytes, ..)| *bytes == row.bytes) {
            sizes.push((row.bytes, each(cost.fill), each(cost.verify)));
        }
    }
    println!("\npreserve: to make the record and to write it, up to the point that it is preserved; boot: from the jump to the next /init, beyond\nan update with none, and without what follows; restore: until all can be read; walk: to verify each; bytes: memory that is no longer\nfree in the first kernel, restored: in the next one once they are restored, beside the records. In preserve and walk, to write and to\nverify a record alone takes:");
    for (bytes, fill, verify) in sizes {
        println!("  {bytes} bytes: {fill:.1} to write, {verify:.1} to verify");
    }
    if let Some(cost) = measured.iter().find_map(|(_, cost)| cost.as_ref().ok()) {
        println!(
            "To zero a page, as the page allocator does for all but vmalloc areas, counts as {}.",
            cost.zero
        );
    }
    println!("measured with");
    for (name, value) in about {
        println!("  {name}: {value}");
    }
    for (row, cost) in measured {
        if let Err(error) = cost {
            println!("not measured: {}: {error}", row.title());
        }
    }
}

fn as_json((row, cost): &Measured) -> Value {
    let cost = match cost {
        Err(error) => json!({"error": error}),
        Ok(cost) => json!({
            "preserve": cost.make,
            "boot": cost.boot,
            "restore": cost.restore,
            "walk": cost.walk,
            "give_back": cost.give_back,
            "bytes": cost.bytes,
            "restored_bytes": cost.restored_bytes,
            "write_alone": cost.fill,
            "verify_alone": cost.verify,
            "zero_a_page": cost.zero,
        }),
    };
    json!({"kind": row.kind, "size": row.bytes, "count": row.count, "all_records": cost})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_by_its_whole_name() {
        let line = "test_primitives: made kind=slab size=64 make=271 bytes=-4096";
        assert_eq!(value(line, "make"), Some(271));
        assert_eq!(value(line, "bytes"), Some(-4096));
        assert_eq!(value(line, "byte"), None);
        assert_eq!(value(line, "kind"), None);
    }
}
