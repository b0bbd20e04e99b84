// SPDX-License-Identifier: GPL-2.0
//! The same on kernels with the address sanitizer: its shadow is an eighth of memory, so all is
//! larger and slower.

use super::{boots, objects, run, Played};
use crate::check;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use anyhow::Result;
use Which::Kasan;

/// The next kernel's shadow comes out of scratch, before that kernel has judged what else is free.
const SCRATCH: &str = "kho_scratch=64M,768M,64M";

/// Four levels of page tables: while a kernel looks at its first processor, in `identify_cpu()`, it
/// forgets for a moment that there are five. An interrupt just then makes the sanitizer report
/// whatever that accesses.
const LEVELS: &str = "no5lvl";

fn machine(name: &str, scenario: &str, chain: &[Which]) -> Machine {
    Machine::new(name, scenario, Kasan, chain)
        .memory(3072)
        .timeout(900)
        .word(SCRATCH)
        .word(LEVELS)
}

/// What `lib/test_kho.c` and `lib/tests/liveupdate.c` save goes along.
pub fn update(lab: &Lab, name: &str) -> Result<Played> {
    let machine = machine(name, "update", &[Kasan, Kasan])
        .memfds(2, 32)
        .region();
    let (mut played, outcome) = run(lab, &machine)?;
    let alive = ["KernelAddressSanitizer initialized"];
    let name = "the address sanitizer is at work";
    played.checks.push(check::says(&outcome, 0, name, &alive));
    played.checks.extend(check::all_arrived(&machine, &outcome));
    Ok(played)
}

pub fn selftests(lab: &Lab, name: &str) -> Result<Played> {
    let mut machine = machine(name, "selftests", &[Kasan]);
    machine.files = lab.selftests()?.liveupdate.clone();
    let (mut played, outcome) = run(lab, &machine)?;
    played.checks.extend(boots::selftest_cases(&outcome));
    Ok(played)
}

/// Slab objects of four processors, with all that SLUB can check beside.
pub fn objects(lab: &Lab, name: &str) -> Result<Played> {
    let machine = machine(name, "update", &[Kasan]).word(objects::SLUB_DEBUG);
    objects::threads_of(lab, machine)
}
