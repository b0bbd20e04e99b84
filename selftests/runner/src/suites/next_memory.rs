// SPDX-License-Identifier: GPL-2.0
//! What the next kernel does with memory before it knows what is preserved.

use super::{run, Played};
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use anyhow::Result;
use Which::Ours;

/// A machine that preserves so many MiB, and boots the next kernel with these options (joined by
/// `+`).
fn machine(name: &str, next: &str, mib: u64) -> Machine {
    Machine::new(name, "next-memory", Ours, &[Ours])
        .memory(1536)
        .word(&format!("lu.size={}", mib << 20))
        .word(&format!("lu.next={next}"))
}

fn taken_over(outcome: &Outcome, expected: bool) -> Check {
    let event = outcome.event(1, "taken over");
    let name = match expected {
        true => "what is preserved was taken over",
        false => "nothing was taken over",
    };
    Check::new(
        name,
        event.is_some_and(|event| event.ok("ok") == expected),
        "",
    )
}

/// Options that are refused, that cost nothing, and that come through because nobody looked.
pub fn options(lab: &Lab, name: &str) -> Result<Played> {
    let mut all = Played::default();
    let harmless = "movable_node+kernelcore=512M+crashkernel=128M@700M+kho_scratch=1M,1M,1M";
    let cases: [(&str, &str, bool, usize, &[&str]); 3] = [
        (
            "refused",
            harmless,
            true,
            0,
            &[
                "take mem= with a limit",
                "take memmap=",
                "take cma=",
                "memtest= would overwrite",
                "will not have a crash kernel",
            ],
        ),
        (
            "mem",
            "mem=700M",
            false,
            1,
            &["booting without it", "take mem= and memmap= off"],
        ),
        ("memtest", "memtest=1", true, 1, &["memtest: skipped"]),
    ];
    for (case, next, taken, generation, lines) in cases {
        let machine = machine(&format!("{name}/{case}"), next, 700);
        let machine = match case {
            "refused" => machine.word("lu.refusals=1"),
            _ => machine.word("liveupdate.audit=off"),
        };
        let (played, outcome) = run(lab, &machine)?;
        let says = lines.iter().map(|line| {
            check::says(
                &outcome,
                generation,
                &format!("the log says \"{line}\""),
                &[line],
            )
        });
        let checks = played.checks.into_iter();
        let checks = checks.chain([taken_over(&outcome, taken)]).chain(says);
        all.checks.extend(checks.map(|mut check| {
            check.name = format!("{case}: {}", check.name);
            check
        }));
        all.logs.extend(played.logs);
    }
    Ok(all)
}

/// Pieces all over memory, so that a gigabyte for CMA is to be had only where something is
/// preserved.
pub fn early_cma(lab: &Lab, name: &str) -> Result<Played> {
    let machine = machine(name, "hugepagesz=1G+hugetlb_cma=1G", 1100)
        .memory(4096)
        .word("lu.gaps=1");
    let (mut played, outcome) = run(lab, &machine)?;
    played.checks.push(taken_over(&outcome, true));
    Ok(played)
}
