// SPDX-License-Identifier: GPL-2.0
//! Updates that must succeed: what was preserved arrives, in every combination of kernels and
//! machines.

use super::{run, Played};
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use anyhow::Result;
use Which::{Debug, Mainline, Ours};

/// The example driver, and what its files share.
pub fn driver(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "driver", Ours, &[Ours, Ours]);
    let (mut played, outcome) = run(lab, &machine)?;
    let missing = ["liveupdate-counter-v2: needs [liveupdate_counter]"];
    let named = "generation 0: the log names the file that is missing";
    played
        .checks
        .push(check::says(&outcome, 0, named, &missing));
    for update in 1..=machine.chain.len() {
        let words = format!("update {update}");
        let line = outcome
            .console
            .find(update, "liveupdate_counter: goes on with ");
        played.checks.push(Check::new(
            format!("generation {update}: what the files share arrived"),
            line.is_some_and(|line| line.ends_with(&words)),
            line.map_or(format!("no line \"{words}\""), str::to_owned),
        ));
    }
    // Set twice before the first update, and once after it.
    for (update, words) in [(1, "2 settings arrived"), (2, "3 settings arrived")] {
        let line = outcome
            .console
            .find(update, &format!("liveupdate_counter: {words}"));
        played.checks.push(Check::new(
            format!("generation {update}: a table of records arrived"),
            line.is_some(),
            line.map_or(format!("no line \"{words}\""), str::to_owned),
        ));
    }
    Ok(played)
}

/// Requests of the sample's.
const REQUESTS: u64 = 10_000;

/// A driver that is cut off in the middle of its work: what it had arrives, and is completed once.
pub fn ring(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "ring", Ours, &[Ours, Ours])
        .timeout(300)
        .word(&format!("liveupdate_ring.requests={REQUESTS}"));
    let (mut played, outcome) = run(lab, &machine)?;
    let made = format!("liveupdate_ring: {REQUESTS} requests are queued");
    played.checks.push(check::says(
        &outcome,
        0,
        "generation 0: the table was made",
        &[&made],
    ));
    let (mut before, mut restarted) = (0, 0);
    for update in 1..=machine.chain.len() {
        let line = outcome.console.find(update, " requests arrived: ");
        let counts = line.map(numbers).unwrap_or_default();
        // At least one of each: it was neither idle nor at its end.
        let in_the_middle = match counts[..] {
            [all, queued, in_flight, done, 0] => {
                let sum = queued + in_flight + done;
                let moved = done > before && queued > 0 && in_flight > 0;
                before = done;
                restarted += in_flight;
                all == REQUESTS && sum == REQUESTS && moved
            }
            _ => false,
        };
        played.checks.push(Check::new(
            format!("generation {update}: all arrived, in the middle of the work"),
            in_the_middle,
            line.unwrap_or("no line \"requests arrived\""),
        ));
    }
    let last = machine.chain.len();
    let line = outcome.console.find(last, " requests are complete");
    let complete = match line.map(numbers).unwrap_or_default()[..] {
        [good, all, earlier, here, again] => {
            (good, all) == (REQUESTS, REQUESTS)
                && earlier == before
                && earlier + here == REQUESTS
                && again > 0
                && again <= restarted
        }
        _ => false,
    };
    played.checks.push(Check::new(
        format!("generation {last}: all were completed once, and verified"),
        complete,
        line.unwrap_or("no line \"requests are complete\""),
    ));
    let missing = outcome
        .console
        .lines()
        .find(|line| line.contains(" were missing") || line.contains("is dropped: "));
    played.checks.push(Check::new(
        "none was lost or damaged",
        missing.is_none(),
        missing.unwrap_or_default(),
    ));
    Ok(played)
}

/// The numbers in a line, behind the name of who says it.
fn numbers(line: &str) -> Vec<u64> {
    let said = line.split_once(": ").map_or(line, |(_, said)| said);
    said.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// eventfds, which the guest makes, uses and looks at.
pub fn eventfd(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "eventfd", Ours, &[Ours, Ours]);
    Ok(run(lab, &machine)?.0)
}

/// Two machines alike but for the kernel that hands over: what arrives must not differ, apart from
/// the addresses in it.
pub fn same_bytes(lab: &Lab, name: &str) -> Result<Played> {
    let mut all = Played::default();
    let mut roots = Vec::new();
    for from in [Ours, Mainline] {
        let folder = format!("{name}/{}", from.name());
        let machine = Machine::new(&folder, "update", from, &[Ours])
            .memfds(1, 4)
            .region();
        let (played, outcome) = run(lab, &machine)?;
        all.checks.extend(played.checks);
        all.logs.extend(played.logs);
        let root = outcome.event(1, "root");
        roots.push(root.map_or(String::new(), |event| event.text("hex").to_owned()));
        let has = root.is_some_and(|event| event.ok("checksum"));
        all.checks.push(Check::new(
            match from {
                Ours => "ours hands over a checksum",
                _ => "mainline hands over none",
            },
            has == (from == Ours),
            "",
        ));
    }
    let same = roots
        .windows(2)
        .all(|pair| pair[0] == pair[1] && !pair[0].is_empty());
    let detail = match same {
        true => format!("{} bytes", roots[0].len() / 2),
        false => roots.join(" against mainline's "),
    };
    all.checks.push(Check::new(
        "the root FDT has mainline's bytes, the checksum and the list of formats aside",
        same,
        detail,
    ));
    Ok(all)
}

/// Four kernels: each passes on what it got.
pub fn there_and_back(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "update", Ours, &[Mainline, Ours, Mainline])
        .memfds(2, 16)
        .region();
    let (mut played, outcome) = run(lab, &machine)?;
    played.checks.extend(check::all_arrived(&machine, &outcome));
    Ok(played)
}

/// What free memory may differ by between two handover boots of one kernel: slab and per-CPU lists
/// are never quite alike.
const FREE_TOLERANCE: u64 = 1 << 20;

/// What the memory there is may differ by: KHO's tree and a file's extents take a page more or less
/// each, as the file is scattered. A leak of 64 MiB's folios, or of a whole list of them, is seen;
/// one of single pages is the simulated machine's to find, which counts them all.
const METADATA_TOLERANCE: u64 = 128 << 10;

pub fn three(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "update", Ours, &[Ours, Ours, Ours])
        .memfds(1, 64)
        .region();
    let (mut played, outcome) = run(lab, &machine)?;
    played.checks.extend(check::all_arrived(&machine, &outcome));
    played
        .checks
        .push(same(&outcome, "boot MemTotal", METADATA_TOLERANCE));
    played
        .checks
        .push(same(&outcome, "boot free", FREE_TOLERANCE));
    Ok(played)
}

/// A figure of the first handover boot must be that of the third, within a tolerance. The second is
/// another state: only every other kernel finds something that lib/test_kho.c saved, 8 MiB, and the
/// ones between save it.
fn same(outcome: &Outcome, name: &str, tolerance: u64) -> Check {
    let kib = |bytes: u64| bytes / 1024;
    let (passed, detail) = match (outcome.value(1, name), outcome.value(3, name)) {
        (Some(first), Some(third)) => (
            first.abs_diff(third) <= tolerance,
            format!(
                "{} and {} KiB, {} KiB may differ",
                kib(first),
                kib(third),
                kib(tolerance)
            ),
        ),
        _ => (false, "not both were reported".to_owned()),
    };
    Check::new(
        format!("{name} is equal after the first and the third update"),
        passed,
        detail,
    )
}

pub fn two_nodes(lab: &Lab, name: &str) -> Result<Played> {
    const MIB: u64 = 192;
    let mut machine = Machine::new(name, "update", Ours, &[Ours, Ours])
        .memfds(2, MIB)
        .region()
        .memory(1536)
        .word("lu.nodes=2");
    machine.nodes = 2;
    let (mut played, outcome) = run(lab, &machine)?;
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 1));
    played.checks.extend(check::region(&machine, &outcome));
    for generation in 1..=2 {
        for node in 0..2 {
            let bytes = outcome
                .value(generation, &format!("node{node} Shmem"))
                .unwrap_or(0);
            played.checks.push(Check::new(
                format!("generation {generation}: node {node} is charged with its memfd"),
                bytes >> 20 >= MIB,
                format!("Shmem of node {node}: {} MiB", bytes >> 20),
            ));
        }
    }
    Ok(played)
}

pub fn not_deferred(lab: &Lab, name: &str) -> Result<Played> {
    twice_with(lab, name, "early_page_ext")
}

pub fn page_owner(lab: &Lab, name: &str) -> Result<Played> {
    twice_with(lab, name, "page_owner=on")
}

/// Two updates with one more word on the command line.
fn twice_with(lab: &Lab, name: &str, word: &str) -> Result<Played> {
    let machine = Machine::new(name, "update", Ours, &[Ours, Ours])
        .memfds(2, 64)
        .region()
        .word(word);
    let (mut played, outcome) = run(lab, &machine)?;
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 1));
    played.checks.extend(check::region(&machine, &outcome));
    Ok(played)
}

pub fn huge_pages(lab: &Lab, name: &str) -> Result<Played> {
    const MIB: u64 = 128;
    let machine = Machine::new(name, "update", Ours, &[Ours, Ours])
        .memfds(1, MIB)
        .word("lu.thp=1");
    let (mut played, outcome) = run(lab, &machine)?;
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 1));
    let huge = outcome.value(0, "huge bytes").unwrap_or(0);
    played.checks.push(Check::new(
        "the memfd is made of huge pages",
        huge >> 20 == MIB,
        format!("{} of {MIB} MiB", huge >> 20),
    ));
    Ok(played)
}

pub fn fragmented(lab: &Lab, name: &str) -> Result<Played> {
    const MIB: u64 = 512;
    let machine = Machine::new(name, "update", Ours, &[Ours])
        .memfds(1, MIB)
        .memory(2048)
        .timeout(240)
        .word("lu.fragmented=1");
    let (mut played, outcome) = run(lab, &machine)?;
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 1));
    let runs = outcome.value(0, "runs").unwrap_or(0);
    played.checks.push(Check::new(
        "the memfd lies in single pages",
        runs > MIB * 256 * 9 / 10,
        format!("{} pages in {runs} runs", MIB * 256),
    ));
    // Before: all of it is still preserved. After: the memfd was retrieved and closed.
    let back = match (outcome.value(1, "boot free"), outcome.value(1, "end free")) {
        (Some(before), Some(after)) => after.saturating_sub(before) >> 20,
        _ => 0,
    };
    played.checks.push(Check::new(
        "its memory is free again once it is closed",
        back >= MIB - 8,
        format!("{back} MiB came back"),
    ));
    Ok(played)
}

pub fn debug(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = Machine::new(name, "debug", Debug, &[Debug, Debug])
        .memfds(2, 32)
        .region()
        .memory(1536)
        .timeout(400)
        .word("debug_pagealloc=on");
    machine.files = lab.selftests()?.liveupdate.clone();
    let (mut played, outcome) = run(lab, &machine)?;
    let alive = ["Lock dependency validator"];
    played
        .checks
        .push(check::says(&outcome, 0, "lockdep is at work", &alive));
    played.checks.extend(super::boots::selftest_cases(&outcome));
    played.checks.extend(check::all_arrived(&machine, &outcome));
    Ok(played)
}

/// The kernel's fault injection, the n-th allocation of a system call at a time.
pub fn faults(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "faults", Debug, &[Debug]).timeout(600);
    let (mut played, outcome) = run(lab, &machine)?;
    // The page allocator and vmalloc say, with a trace, that they failed: as they were told to.
    let bad = outcome.console.lines().find(|line| {
        ["BUG:", "WARNING:", "possible "]
            .iter()
            .any(|bad| line.contains(bad))
    });
    for check in &mut played.checks {
        if check.name == "no kernel complained" {
            *check = Check::new(
                "no kernel complained of more than failed allocations",
                bad.is_none(),
                bad.unwrap_or_default(),
            );
        }
    }
    // What closes or finishes need not allocate; these do.
    for (generation, what) in [
        (0, "CREATE_SESSION"),
        (0, "PRESERVE_FD"),
        (1, "RETRIEVE_SESSION"),
        (1, "RETRIEVE_FD"),
    ] {
        let failures = outcome.value(generation, &format!("{what} failures"));
        played.checks.push(Check::new(
            format!("{what} met failing allocations"),
            failures.is_some_and(|failures| failures > 0),
            failures.map_or_else(|| "not played".to_owned(), |count| count.to_string()),
        ));
    }
    for what in [
        "memfds retrieved after a failure",
        "memfds lost by a failure",
    ] {
        let count = outcome.value(1, what);
        played.checks.push(Check::new(
            format!("{what} are counted"),
            count.is_some(),
            count.map_or_else(String::new, |count| count.to_string()),
        ));
    }
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 1));
    Ok(played)
}
