// SPDX-License-Identifier: GPL-2.0
//! The kernel's own tools/testing/selftests/liveupdate, unmodified: the cases without a kexec, then
//! the ones across it.

use crate::cmdline::Cmdline;
use crate::{event, kexec};
use anyhow::{Context, Result};
use serde_json::json;
use std::process::{Command, Stdio};

/// What is played unless `lu.tests=` names others. Those that take stages run stage 1 before the
/// kexec and stage 2 after it; each holds its sessions through a process it leaves behind.
const ALL: &str =
    "liveupdate,luo_kexec_simple,luo_multi_session,luo_stress_files,luo_stress_sessions";
/// The one that stays within a kernel.
const WITHIN: &str = "liveupdate";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let tests = cmdline.get("tests").unwrap_or(ALL).split(',');
    let (within, across): (Vec<_>, Vec<_>) = tests.partition(|name| *name == WITHIN);
    if cmdline.generation() > 0 {
        return across.iter().try_for_each(|name| stage(name, "2"));
    }
    for name in within {
        run(name, &[])?;
    }
    for name in across {
        stage(name, "1")?;
    }
    kexec::load(cmdline)?;
    kexec::jump()
}

fn stage(name: &str, stage: &str) -> Result<()> {
    let (ok, output) = run(name, &["-s", stage])?;
    let last = output.lines().rev().find(|line| !line.trim().is_empty());
    let passed = ok && (stage == "1" || output.contains("TEST PASSED"));
    event::check(
        &format!("{name} stage {stage}"),
        passed,
        if passed {
            ""
        } else {
            last.unwrap_or("no output")
        },
    );
    Ok(())
}

/// Runs one test binary, passing its output on line by line.
pub fn run(name: &str, arguments: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(format!("/tests/{name}"))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .with_context(|| format!("cannot run /tests/{name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines() {
        event::send("line", json!({"of": name, "text": line}));
    }
    Ok((output.status.success(), text))
}
