// SPDX-License-Identifier: GPL-2.0
//! `make docs`: rustdoc of every crate and the documents of Documentation as HTML, with warnings as errors.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

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
    // cargo has its own place for it, beside what it compiled for the other commands and need not compile again.
    let crates = out.join("crates");
    if fs::symlink_metadata(&crates).is_err() {
        symlink("../doc", &crates).with_context(|| format!("cannot link {}", crates.display()))?;
    }
    println!("documents: {}", out.display());
    let first = crates.join("liveupdate/index.html");
    println!("crates: {}", first.display());
    Ok(())
}

/// The host build of the kernel's crate, and every other one, private items too: they are what one changes.
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

/// Each .rst as HTML in `out`; gives their number.
pub(crate) fn documents(root: &Path, out: &Path, steps: &Steps) -> Result<usize> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let folder = root.join("Documentation");
    let listed =
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut sources: Vec<PathBuf> = listed
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    sources.retain(|path| path.extension() == Some(OsStr::new("rst")));
    sources.sort();
    if sources.is_empty() {
        bail!("there is no .rst in {}", folder.display());
    }
    for source in &sources {
        let name = source.file_stem().unwrap_or_default();
        let html = out.join(name).with_extension("html");
        let mut cmd = Command::new(PYTHON);
        cmd.current_dir(root)
            .args(["-m", "docutils", "--halt=2", "--report=2"])
            // Colours would take another package, and a warning where it is missing.
            .arg("--syntax-highlight=none")
            .arg(source)
            .arg(html);
        let step = format!("docutils of {}", name.to_string_lossy());
        steps.run(&step, &mut cmd)?;
    }
    Ok(sources.len())
}
