// SPDX-License-Identifier: GPL-2.0
//! The benchmark: what preserving, handing over and retrieving a memfd costs, ours against
//! mainline's C, in guest instructions.

pub mod primitives;
pub mod sessions;
mod table;

use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::qemu;
use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Instant;

const BOTH: [Which; 2] = [Which::Ours, Which::Mainline];
/// Beside the memfds: scratch, kernel, initramfs.
const REST_MIB: u64 = 1024;
const PAGES_A_MIB: u64 = 256;

/// One memfd under one kernel configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub mib: u64,
    pub layout: Layout,
    /// DEFERRED_STRUCT_PAGE_INIT in effect.
    pub deferred: bool,
    /// Ours writes mainline's memfd 2; its newest otherwise.
    pub older: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Folios of 4 KiB.
    Small,
    /// Transparent huge pages.
    Huge,
    /// Folios of 4 KiB, each with a foreign neighbour.
    EverySecond,
    /// Folios of 4 KiB in one page of [`SPARSE`], holes between them.
    Sparse,
}

/// 4 GiB of file then have 64 MiB of memory.
const SPARSE: u64 = 64;

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "4 KiB folios",
            Self::Huge => "2 MiB folios",
            Self::EverySecond => "every second page",
            Self::Sparse => "a page in 64",
        }
    }
}

impl Row {
    /// Those that hold something.
    pub fn pages(&self) -> u64 {
        let all = self.mib * PAGES_A_MIB;
        match self.layout {
            Layout::Sparse => all / SPARSE,
            _ => all,
        }
    }

    fn title(&self) -> String {
        let deferred = if self.deferred { "on" } else { "off" };
        format!("{}, deferred {deferred}", self.short())
    }

    /// All but what is the same for many rows.
    fn short(&self) -> String {
        let version = if self.older { ", as memfd 2" } else { "" };
        format!("{} MiB, {}{version}", self.mib, self.layout.name())
    }

    fn machine(&self, which: Which, number: usize) -> Machine {
        let memory = match self.layout {
            Layout::EverySecond => 2 * self.mib + REST_MIB,
            _ => self.mib + REST_MIB,
        };
        let name = format!("bench/{number}-{}", which.name());
        // The first update hands over an empty session, the second one the memfd.
        let mut machine = Machine::new(&name, "update", which, &[which, which])
            .memfds(1, self.mib)
            .memory(memory)
            .timeout(1500)
            .word("lu.maker=1")
            .word("lu.touch=1")
            // Repeatable, and without the cost of printing and of lib/test_kho.c's 8 MiB.
            .word("nokaslr quiet initcall_blacklist=kho_test_init");
        match self.layout {
            Layout::Small => {}
            Layout::Huge => machine = machine.word("lu.thp=1"),
            Layout::EverySecond => machine = machine.word("lu.fragmented=1"),
            Layout::Sparse => machine = machine.word(&format!("lu.sparse={SPARSE}")),
        }
        if !self.deferred {
            machine = machine.word("early_page_ext");
        }
        if self.older {
            machine = machine.word("liveupdate.hide=memfd:3");
        }
        machine.cpus = 1;
        machine.icount = true;
        machine
    }
}

/// What one kernel needed, in guest instructions.
#[derive(Clone)]
pub struct Cost {
    pub preserve: u64,
    /// From the jump to the next /init, with an empty session.
    pub empty: u64,
    /// The same with the memfd.
    pub loaded: u64,
    pub retrieve: u64,
    pub metadata_bytes: u64,
    release: String,
}

impl Cost {
    fn read(outcome: &Outcome) -> Result<Self> {
        if let Some(failure) = &outcome.failure {
            bail!("{failure}; see {}", outcome.log.display());
        }
        if outcome
            .event(2, "intact")
            .is_none_or(|event| !event.ok("ok"))
        {
            bail!(
                "the memfd did not arrive intact; see {}",
                outcome.log.display()
            );
        }
        let ticks = |generation, name: &str| {
            outcome
                .named(generation, "phase", name)
                .map(|event| event.number("ticks"))
                .with_context(|| format!("the guest did not report {name}"))
        };
        let jump = |generation| {
            outcome
                .downtime_ticks(generation)
                .context("the guest did not report its jump")
        };
        Ok(Self {
            preserve: ticks(1, "preserve")?,
            empty: jump(0)?,
            loaded: jump(1)?,
            retrieve: ticks(2, "retrieve")?,
            metadata_bytes: outcome.value(1, "metadata bytes").unwrap_or(0),
            release: outcome
                .event(0, "boot")
                .map_or("", |event| event.text("release"))
                .to_owned(),
        })
    }

    /// What the memfd adds to an empty update. It may be less than nothing: memory that is handed
    /// over need not be given to the page allocator at boot, and in an empty update it is.
    pub fn downtime(&self) -> f64 {
        self.loaded as f64 - self.empty as f64
    }

    fn json(&self, pages: u64) -> Value {
        let each = |cost: f64| cost / pages as f64;
        json!({
            "release": self.release,
            "preserve": self.preserve,
            "empty_update": self.empty,
            "kexec_and_boot": self.loaded,
            "kexec_and_boot_beyond_empty": self.downtime(),
            "retrieve": self.retrieve,
            "metadata_bytes": self.metadata_bytes,
            "preserve_per_page": each(self.preserve as f64),
            "kexec_and_boot_per_page": each(self.downtime()),
            "retrieve_per_page": each(self.retrieve as f64),
        })
    }
}

/// A row with the costs in the order of `BOTH`; a run that failed says why.
pub struct Measured {
    pub row: Row,
    pub costs: [Result<Cost, String>; 2],
}

fn rows(quick: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for deferred in [false, true] {
        let mut add = |mib, layout| {
            rows.push(Row {
                mib,
                layout,
                deferred,
                older: false,
            })
        };
        let sizes: &[u64] = if quick { &[512] } else { &[512, 2048, 4096] };
        for layout in [Layout::Small, Layout::Huge] {
            sizes.iter().for_each(|mib| add(*mib, layout));
        }
        // Mainline's time grows with the square of it.
        add(if quick { 128 } else { 256 }, Layout::EverySecond);
    }
    let (dense, sparse) = if quick { (512, 512) } else { (2048, 4096) };
    for (mib, layout, older) in [
        (dense, Layout::Small, true),
        (dense, Layout::Huge, true),
        (sparse, Layout::Sparse, false),
        (sparse, Layout::Sparse, true),
    ] {
        rows.push(Row {
            mib,
            layout,
            deferred: true,
            older,
        });
    }
    rows
}

/// Measures, prints the table, writes the JSON. True if every run could be measured.
pub fn run(lab: &Lab, quick: bool, only: Option<&str>, json: Option<&Path>) -> Result<bool> {
    let began = Instant::now();
    let mut rows = rows(quick);
    rows.retain(|row| only.is_none_or(|only| row.title().contains(only)));
    if rows.is_empty() {
        bail!(
            "no line has \"{}\" in it; they read like \"2048 MiB, 4 KiB folios, deferred on\"",
            only.unwrap_or_default()
        );
    }
    let costs = measure(lab, &rows, Row::title, Row::machine, Cost::read)?;
    let measured: Vec<Measured> = rows
        .iter()
        .zip(costs)
        .map(|(row, costs)| Measured { row: *row, costs })
        .collect();
    let releases = [0, 1].map(|place| {
        let cost = measured
            .iter()
            .find_map(|row| row.costs[place].as_ref().ok());
        cost.map_or("unknown", |cost| &cost.release).to_owned()
    });
    let first = measured.first();
    let about = about(releases, first.map(|row| row.row.machine(Which::Ours, 0)))?;
    table::print(&measured, &about);
    println!("measured in {} s", began.elapsed().as_secs());
    if let Some(path) = json {
        write_json(path, &measured, &about)?;
    }
    Ok(measured
        .iter()
        .all(|row| row.costs.iter().all(Result::is_ok)))
}

/// Runs each row on both kernels, two machines at a time; the costs are in the order of `BOTH`.
fn measure<R: Sync, C: Send + Clone>(
    lab: &Lab,
    rows: &[R],
    title: impl Fn(&R) -> String + Sync,
    machine: impl Fn(&R, Which, usize) -> Machine + Sync,
    read: impl Fn(&Outcome) -> Result<C> + Sync,
) -> Result<Vec<[Result<C, String>; 2]>> {
    for which in BOTH {
        lab.kernel(which)?;
    }
    let jobs: Vec<(usize, Which)> = (0..rows.len())
        // The slow ones first: two at a time should end together.
        .rev()
        .flat_map(|row| BOTH.map(|which| (row, which)))
        .collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some((number, which)) = jobs.get(place).copied() else {
                    return;
                };
                let row = &rows[number];
                lab.steps.say(&format!(
                    "{} of {}: {}, {}",
                    place + 1,
                    jobs.len(),
                    which.name(),
                    title(row)
                ));
                let cost = qemu::run(lab, &machine(row, which, number))
                    .and_then(|outcome| read(&outcome))
                    .map_err(|error| format!("{error:#}"));
                if let Ok(mut results) = results.lock() {
                    results.push((number, which, cost));
                }
            });
        }
    });
    let Ok(results) = results.into_inner() else {
        bail!("a measuring thread died; its message is above");
    };
    let cost = |number: usize, which: Which| {
        let found = results
            .iter()
            .find(|(at, of, _)| *at == number && *of == which);
        found.map_or(Err("was not run".to_owned()), |(_, _, cost)| cost.clone())
    };
    Ok((0..rows.len())
        .map(|number| BOTH.map(|which| cost(number, which)))
        .collect())
}

/// What the figures were measured with: names and values, for a person and for the JSON.
fn about(releases: [String; 2], machine: Option<Machine>) -> Result<Vec<(&'static str, String)>> {
    let version = Command::new(qemu::PROGRAM).arg("--version").output();
    let version = version.with_context(|| format!("cannot run {}", qemu::PROGRAM))?;
    let version = String::from_utf8_lossy(&version.stdout);
    let (cmdline, arguments) = machine.map_or_else(Default::default, |machine| {
        (machine.cmdline(), machine.arguments().join(" "))
    });
    let [ours, mainline] = releases;
    Ok(vec![
        (
            "ours",
            format!("Linux {ours}, config {}", Which::Ours.config()),
        ),
        (
            "mainline",
            format!("Linux {mainline}, config {}", Which::Mainline.config()),
        ),
        ("emulator", version.lines().next().unwrap_or("").to_owned()),
        ("first row's machine", arguments),
        ("first row's command line", cmdline),
    ])
}

fn write_json(path: &Path, measured: &[Measured], about: &[(&str, String)]) -> Result<()> {
    let rows: Vec<Value> = measured
        .iter()
        .map(|measured| {
            let cost = |place: usize| match &measured.costs[place] {
                Ok(cost) => cost.json(measured.row.pages()),
                Err(error) => json!({"error": error}),
            };
            json!({
                "mib": measured.row.mib,
                "layout": measured.row.layout.name(),
                "deferred_struct_page_init": measured.row.deferred,
                "memfd_2": measured.row.older,
                "command_line": measured.row.machine(Which::Ours, 0).cmdline(),
                "ours": cost(0),
                "mainline": cost(1),
            })
        })
        .collect();
    write_rows(path, &rows, about)
}

/// Writes what was measured, and with what.
fn write_rows(path: &Path, rows: &[Value], about: &[(&str, String)]) -> Result<()> {
    let about: serde_json::Map<String, Value> = about
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let whole = json!({"unit": "guest instructions", "measured_with": about, "rows": rows});
    std::fs::write(path, format!("{whole:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}
