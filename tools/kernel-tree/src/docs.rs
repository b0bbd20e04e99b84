// SPDX-License-Identifier: GPL-2.0
//! `make docs`: rustdoc of every crate and the documents of Documentation as HTML, with warnings as
//! errors.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::project_root;
use crate::steps::Steps;

/// Debian's, which has Debian's docutils; the first one on `PATH` may be another.
const PYTHON: &str = "/usr/bin/python3";

/// Builds all of it into target/docs.
///
/// # Errors
///
/// When rustdoc or docutils warn, or cannot be run.
pub fn docs(steps: &Steps) -> Result<()> {
    let root = project_root();
    let out = root.join("target/docs");
    documents(&root, &out, steps)?;
    steps.run("rustdoc", &mut rustdoc(&root))?;
    // cargo has its own place for it, beside what it compiled for the other commands.
    let crates = out.join("crates");
    if fs::symlink_metadata(&crates).is_err() {
        symlink("../doc", &crates).with_context(|| format!("cannot link {}", crates.display()))?;
    }
    println!("documents: {}", out.join("index.html").display());
    let first = crates.join("liveupdate/index.html");
    println!("crates: {}", first.display());
    Ok(())
}

/// The host build of the kernel's crate, and every other one, private items too: they are what one
/// changes.
fn rustdoc(root: &Path) -> Command {
    let mut cmd = Command::new("cargo");
    cmd.current_dir(root)
        .env("RUSTDOCFLAGS", "-D warnings")
        .args([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]);
    cmd
}

/// Each .rst as HTML in `out`, with links between them; gives their number.
pub(crate) fn documents(root: &Path, out: &Path, steps: &Steps) -> Result<usize> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let folder = root.join("Documentation");
    let mut cmd = Command::new(PYTHON);
    cmd.arg(root.join("tools/kernel-tree/src/docs.py"))
        .arg(&folder)
        .arg(out);
    steps.run("docutils", &mut cmd)?;
    let listed =
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let is_page = |entry: &fs::DirEntry| entry.path().extension() == Some(OsStr::new("rst"));
    Ok(listed.flatten().filter(is_page).count())
}
