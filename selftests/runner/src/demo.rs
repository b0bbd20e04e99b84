// SPDX-License-Identifier: GPL-2.0
//! The demo: one live update with luoctl of 256 MiB and a `reserve_mem` region, from our kernel to
//! our kernel, told as it happens.

use crate::check;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::{Event, Outcome};
use crate::qemu;
use anyhow::Result;

const MIB: u64 = 256;

/// True if all of it is intact.
pub fn run(lab: &Lab) -> Result<bool> {
    let machine = Machine::new("demo", "demo", Which::Ours, &[Which::Ours])
        .word(&format!("lu.size={}", MIB << 20))
        .region()
        .memory(1536)
        .file("bin/luoctl", &lab.programs.luoctl);
    // Built before the story begins.
    lab.kernel(Which::Ours)?;
    lab.steps.say("starting a virtual machine");
    println!(
        "A machine with {} MiB of memory boots Linux with our KHO core.",
        machine.memory_mib
    );
    let outcome = qemu::run_watched(lab, &machine, tell)?;
    let mut bad: Vec<String> = check::any_run(&machine, &outcome)
        .into_iter()
        .chain(check::update_from(&machine, &outcome, 1))
        .chain(check::region(&machine, &outcome))
        .filter(|check| !check.passed)
        .map(|check| format!("{}: {}", check.name, check.detail))
        .collect();
    if outcome.failure.is_some() {
        // All else only follows from it.
        bad.truncate(1);
    }
    if bad.is_empty() {
        summary(&outcome);
        println!("{MIB} MiB intact");
        println!("(the console of both kernels: {})", outcome.log.display());
        return Ok(true);
    }
    for line in &bad {
        println!("NOT intact: {line}");
    }
    println!("The console of the kernels is in {}", outcome.log.display());
    Ok(false)
}

fn seconds(event: &Event) -> f64 {
    event.number("ns") as f64 / 1e9
}

/// One line an event, for a person.
fn tell(event: &Event) {
    let at = event.at.as_secs_f64();
    let pages = MIB * 256;
    let line = match (event.kind(), event.text("name"), event.generation) {
        ("boot", _, 0) => format!("Linux {} is up.", event.text("release")),
        ("boot", _, _) => format!(
            "Linux {} is up: the kernel has been replaced, no firmware ran.",
            event.text("release")
        ),
        ("phase", "fill", _) => format!(
            "A file of {MIB} MiB is written, a pattern on each of its {pages} pages ({:.2} s).",
            seconds(event)
        ),
        ("value", "region start", 0) => format!(
            "A reserve_mem region of 4 MiB at {:#x} is written too, 1024 pages.",
            event.number("value")
        ),
        ("phase", "preserve", _) => format!(
            "luoctl preserve: the file is copied into a session, with a checksum; the file itself is removed ({:.2} s).",
            seconds(event)
        ),
        ("phase", "load", _) => format!("luoctl load: the next kernel is in its place ({:.2} s).", seconds(event)),
        ("kexec", _, _) => "luoctl update: this kernel hands over and jumps.".to_owned(),
        ("phase", "retrieve", _) => {
            format!(
                "luoctl retrieve: the file is back, and its checksum is right ({:.2} s).",
                seconds(event)
            )
        }
        ("phase", "verify", _) => format!(
            "Each of its {pages} pages is read ({:.2} s).",
            seconds(event)
        ),
        ("intact", _, _) if event.ok("ok") => "Every page of the file is what it was.".to_owned(),
        ("region", _, _) if event.ok("ok") => {
            "The reserve_mem region is what and where it was.".to_owned()
        }
        ("intact" | "region", _, _) => format!("DAMAGED: {}", event.text("detail")),
        _ => return,
    };
    println!("  {at:6.1} s  {line}");
}

fn summary(outcome: &Outcome) {
    let release = |generation| {
        outcome
            .event(generation, "boot")
            .map_or("", |event| event.text("release"))
    };
    let phase = |generation, name: &str| {
        outcome
            .named(generation, "phase", name)
            .map_or(0.0, seconds)
    };
    let jump = match (outcome.event(0, "kexec"), outcome.event(1, "boot")) {
        (Some(left), Some(arrived)) => arrived.at.saturating_sub(left.at).as_secs_f64(),
        _ => 0.0,
    };
    if let Some(line) = outcome.console.find(1, "exec from: ") {
        println!("The new kernel says: {line}");
    }
    println!(
        "From Linux {} to Linux {}: preserve {:.3} s, load {:.2} s, kexec and boot {jump:.2} s, retrieve {:.3} s, verify {:.2} s.",
        release(0),
        release(1),
        phase(0, "preserve"),
        phase(0, "load"),
        phase(1, "retrieve"),
        phase(1, "verify"),
    );
}
