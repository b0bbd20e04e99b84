// SPDX-License-Identifier: GPL-2.0
//! Preserved slab objects and array values through updates: what they cost, from many processors,
//! and when an update is called off. The kernel plays all of it (`tests/test_objects*.c`); its
//! lines say how it went.

use super::{run, Played};
use crate::check;
use crate::lab::{Lab, Which::Debug, Which::Ours};
use crate::machine::Machine;
use crate::outcome::Outcome;
use anyhow::Result;

const MANY: &str = "test_objects.count=1000000";

/// Adds a check that a kernel said a line, what it does in that generation being the name.
fn says(played: &mut Played, outcome: &Outcome, generation: usize, what: &str, line: &str) {
    let name = format!("generation {generation}: {what}");
    let line = format!("test_objects: {line}");
    played
        .checks
        .push(check::says(outcome, generation, &name, &[&line]));
}

/// Verified in each generation, a third being freed and made again; and what kmem_cache costs
/// beside it.
pub fn alone(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = Machine::new(name, "update", Ours, &[Ours, Ours])
        .memfds(1, 4)
        .memory(1536)
        .timeout(400)
        .word(MANY);
    machine.cpus = 1;
    machine.icount = true;
    let (mut played, outcome) = run(lab, &machine)?;
    let mut says = |generation, what: &str, line: &str| {
        says(&mut played, &outcome, generation, what, line);
    };
    says(0, "what kmem_cache costs", "kmem_cache: ");
    says(0, "what a slab costs", "slab: ");
    says(0, "what an array costs", "array: ");
    says(0, "all were made", "made 1000000: 0");
    for update in 1..=machine.chain.len() {
        says(update, "what it costs to attach", "attached ");
        let round = format!("all are of round {}", update - 1);
        says(update, "all arrived, the ones made last too", &round);
        says(update, "a third was freed and made again", "resumed: 0");
    }
    Ok(played)
}

/// Four threads on four processors, on a new cache, and on one that was taken over.
pub fn threads(lab: &Lab, name: &str) -> Result<Played> {
    threads_of(lab, Machine::new(name, "update", Ours, &[Ours, Ours]))
}

/// The same on kernels with lockdep, and with all that SLUB can check.
pub fn threads_debug(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "update", Debug, &[Debug]).memory(2048);
    threads_of(lab, machine.word(SLUB_DEBUG))
}

/// Consistency checks, red zones, poison and owners, for every cache of kmem_cache's.
pub const SLUB_DEBUG: &str = "slab_debug=FZPU";

/// Four threads in these machines.
pub fn threads_of(lab: &Lab, machine: Machine) -> Result<Played> {
    let mut machine = machine
        .memfds(1, 4)
        .timeout(900)
        .word("test_objects.threads=4");
    machine.cpus = 4;
    let (mut played, outcome) = run(lab, &machine)?;
    for generation in 0..=machine.chain.len() {
        let mut says = |what: &str, line: &str| {
            says(&mut played, &outcome, generation, what, line);
        };
        says("threads on all processors", "threads: 4 on 4 processors: ");
        says("no object had two owners, all agrees", "threads: 0");
    }
    for generation in 1..=machine.chain.len() {
        let left = |generation| {
            let line = outcome.console.find(generation, " objects are left")?;
            line.split_whitespace().nth(2)?.parse::<u64>().ok()
        };
        let wanted = left(generation - 1).map(|left| format!("threads: {left} objects arrived"));
        let wanted = wanted.unwrap_or_else(|| "threads: none was left".to_owned());
        says(
            &mut played,
            &outcome,
            generation,
            "as many arrived as were left",
            &wanted,
        );
    }
    Ok(played)
}

/// Refused by reboot(2), then unloaded, then done: objects change at each step, and the last state
/// is what arrives.
pub fn retry(lab: &Lab, name: &str) -> Result<Played> {
    let machine = Machine::new(name, "objects-retry", Ours, &[Ours])
        .memory(1536)
        .timeout(400)
        .word(MANY);
    let (mut played, outcome) = run(lab, &machine)?;
    let mut says = |generation, what: &str, line: &str| {
        says(&mut played, &outcome, generation, what, line);
    };
    says(0, "all were made", "made 1000000: 0");
    for round in 1..=5 {
        let line = format!("changed to round {round}: 0");
        says(
            0,
            &format!("a third was made again, time {round} of 5"),
            &line,
        );
    }
    says(
        1,
        "all arrived, the ones made last too",
        "all are of round 5",
    );
    says(1, "a third was freed and made again", "resumed: 0");
    says(1, "and once more", "changed to round 7: 0");
    played
        .checks
        .extend(check::update_from(&machine, &outcome, 1));
    Ok(played)
}
