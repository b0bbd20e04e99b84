// SPDX-License-Identifier: GPL-2.0
//! The selftests for a booted machine, run in a test machine as they are run on any other.

use super::memfd::swap;
use crate::cmdline::Cmdline;
use crate::event;
use anyhow::{Context, Result};
use serde_json::json;
use std::process::{Command, Stdio};

/// Passes on what they print, and their exit code.
pub fn play(cmdline: &Cmdline) -> Result<()> {
    // What a machine without live update lacks beside is no matter.
    if !cmdline.flag("absent") {
        swap::on()?;
    }
    let output = Command::new("/init")
        .arg("kselftest")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start the selftests")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        event::send("line", json!({"of": "kselftest", "text": line}));
    }
    let code = output.status.code().context("the selftests were killed")?;
    event::send("exit", json!({"code": code}));
    Ok(())
}
