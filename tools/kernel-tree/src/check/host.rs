// SPDX-License-Identifier: GPL-2.0
//! clippy over everything cargo builds.

use std::path::Path;
use std::process::Command;

use super::{finding, Finding};
use crate::steps::Steps;

pub(super) fn clippy(root: &Path, steps: &Steps) -> Finding {
    let mut cmd = Command::new("cargo");
    cmd.current_dir(root).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    let name = "clippy of the host crates";
    match steps.run_terse(name, &mut cmd) {
        Ok(()) => Ok(String::new()),
        Err(err) => finding(steps, name, &err, &["error", "-->"]),
    }
}
