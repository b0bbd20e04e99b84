// SPDX-License-Identifier: GPL-2.0
//! The user's guide, followed to the letter: its programs are built as it says, and its lines typed
//! in two kernels.

use super::{run, Played};
use crate::check::Check;
use crate::guide::{self, Step};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use anyhow::{Context, Result};
use serde_json::{json, Value};
use std::process::Command;
use Which::Ours;

/// What the guide's first lines leave, and what the programs are called on the machine.
const PROGRAMS: [(&str, &str); 2] = [
    ("tests/keep-c", "target/keep-c"),
    ("tests/keep-rs", "target/release/examples/keep"),
];
const SHELL: &str = "/usr/bin/busybox";

pub fn play(lab: &Lab, name: &str) -> Result<Played> {
    let guide = guide::read()?;
    let root = kernel_tree::project_root();
    for (_, program) in PROGRAMS {
        // One of an earlier run must not stand in.
        let _ = std::fs::remove_file(root.join(program));
    }
    let mut checks = guide.host.iter().map(build).collect::<Result<Vec<_>>>()?;

    let script = lab.folder(name)?.join("guide.json");
    let kernels: Vec<Value> = guide
        .kernels
        .iter()
        .map(|steps| steps_json(steps))
        .collect();
    std::fs::write(&script, json!(kernels).to_string())
        .with_context(|| format!("cannot write {}", script.display()))?;
    let mut machine = Machine::new(name, "guide", Ours, &[Ours]);
    machine.files = PROGRAMS
        .map(|(there, program)| (there.to_owned(), root.join(program)))
        .to_vec();
    machine.files.push(("tests/guide.json".to_owned(), script));
    machine
        .files
        .push(("tests/busybox".to_owned(), SHELL.into()));
    let (mut played, outcome) = run(lab, &machine)?;
    let typed = outcome.kind("typed").count();
    let wanted = guide.kernels.iter().flatten().count();
    checks.push(Check::new(
        "each line of the guide was typed",
        typed == wanted,
        format!("{typed} of {wanted}"),
    ));
    played.checks.extend(checks);
    Ok(played)
}

fn steps_json(steps: &[Step]) -> Value {
    steps
        .iter()
        .map(|step| json!({"command": step.command, "output": step.output}))
        .collect()
}

/// What is typed in the project's folder.
fn build(step: &Step) -> Result<Check> {
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {}", step.command)])
        .current_dir(kernel_tree::project_root())
        .output()
        .context("cannot run sh")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Check::new(
        format!("$ {}", step.command),
        output.status.success() && text == step.output,
        text.trim().replace('\n', " | "),
    ))
}
