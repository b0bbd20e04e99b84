// SPDX-License-Identifier: GPL-2.0
//! rustfmt: the kernel's settings for what the kernel builds, the default for the rest.

use std::path::Path;
use std::process::Command;

use super::{finding, Finding};
use crate::integrate::{sources, DRIVER, FOLDERS};
use crate::steps::Steps;

/// How rustfmt says where a file differs.
const DIFF: [&str; 2] = ["Diff in ", "error"];

pub(super) fn kernel(root: &Path, source: &Path, steps: &Steps) -> Finding {
    let mut files = vec![root.join("liveupdate.rs")];
    for folder in FOLDERS.into_iter().chain([DRIVER]) {
        let found = sources(root, Path::new(folder)).map_err(|e| vec![format!("{e:#}")])?;
        let rust = found
            .iter()
            .filter(|f| f.extension().is_some_and(|e| e == "rs"));
        files.extend(rust.map(|f| root.join(f)));
    }
    let mut cmd = Command::new(rustfmt());
    cmd.env_remove("LD_LIBRARY_PATH")
        .args([
            "--check",
            "--color",
            "never",
            "--edition",
            "2021",
            "--config-path",
        ])
        .arg(source.join(".rustfmt.toml"))
        .args(&files);
    let name = "rustfmt of the kernel files";
    match steps.run_terse(name, &mut cmd) {
        Ok(()) => Ok(format!("{} files", files.len())),
        Err(err) => finding(steps, name, &err, &DIFF),
    }
}

pub(super) fn host(root: &Path, steps: &Steps) -> Finding {
    let mut cmd = Command::new("cargo");
    cmd.current_dir(root)
        .args(["fmt", "--all", "--", "--check", "--color", "never"]);
    let name = "rustfmt of the host crates";
    match steps.run_terse(name, &mut cmd) {
        Ok(()) => Ok(String::new()),
        Err(err) => finding(steps, name, &err, &DIFF),
    }
}

/// The one that belongs to the kernel's rustc, else the first on PATH.
fn rustfmt() -> &'static str {
    match Path::new("/usr/bin/rustfmt").is_file() {
        true => "/usr/bin/rustfmt",
        false => "rustfmt",
    }
}
