// SPDX-License-Identifier: GPL-2.0
//! `make check`: everything that can be said about the sources without booting them.

mod floors;
mod format;
mod host;
mod kerneldoc;
mod links;
mod listed;
mod named;
mod rustc;
mod spdx;
mod width;
mod words;

use std::path::PathBuf;

use anyhow::{bail, Error, Result};

use crate::cache::project_root;
use crate::docs;
use crate::kernel::{ensure_kernel, Kernel};
use crate::source::{ensure_source, Tree};
use crate::steps::Steps;

/// What a check found: a short remark when all is well, else one line for each thing that is not.
pub(crate) type Finding = Result<String, Vec<String>>;

/// How many of a failed check's lines are shown; the log has the rest.
const SHOWN: usize = 10;

/// Runs every check and prints a line for each.
///
/// # Errors
///
/// When a check fails, after all have run.
pub fn check(steps: &Steps) -> Result<()> {
    let root = project_root();
    let mut failed = 0;
    let mut report = |name: &str, finding: Finding| match finding {
        Ok(remark) if remark.is_empty() => println!("ok      {name}"),
        Ok(remark) => println!("ok      {name}: {remark}"),
        Err(lines) => {
            failed += 1;
            let first = lines.first().map_or("", String::as_str);
            println!("FAILED  {name}: {first}");
            for line in lines.iter().skip(1).take(SHOWN) {
                println!("        {line}");
            }
            if lines.len() > SHOWN + 1 {
                println!("        and {} more", lines.len() - SHOWN - 1);
            }
        }
    };

    report("SPDX lines", spdx::check(&root));
    report("lines are not too long", width::check(&root));
    report(
        "no unsafe, no bindings:: outside entry, sys and the API for drivers",
        words::fences(&root),
    );
    report("floors, and no circles of files", floors::check(&root));
    report("rustfmt, host crates", format::host(&root, steps));
    report("clippy, host crates", host::clippy(&root, steps));
    let documents = docs::documents(&root, &root.join("target/docs"), steps);
    report(
        "documents without warnings",
        documents
            .as_ref()
            .map_or_else(said, |n| Ok(format!("{n} documents"))),
    );
    // What needs the kernel tree comes last: without it the rest has still been said.
    let source = ensure_source(Tree::Ours, steps);
    let tree = source.as_ref().ok().map(PathBuf::as_path);
    report("what documents name is there", named::check(&root, tree));
    let kernel_doc = |source: &PathBuf| kerneldoc::check(&root, source);
    report(
        "kernel-doc of what drivers in C call",
        source.as_ref().map_or_else(said, kernel_doc),
    );
    let files = |source: &PathBuf| format::kernel(&root, source, steps);
    report(
        "rustfmt, kernel files",
        source.as_ref().map_or_else(said, files),
    );
    let kernel = source.and_then(|_| ensure_kernel(Tree::Ours, "test", steps));
    let quiet = |_: &Kernel| rustc::no_warnings(steps);
    report(
        "kernel build without warnings",
        kernel.as_ref().map_or_else(said, quiet),
    );
    if let Ok(kernel) = kernel {
        report("none of the replaced C is linked", links::objects(&kernel));
        report(
            "exports for modules are mainline's",
            links::exports(&kernel),
        );
        let recorded = rustc::Recorded::read(&kernel, rustc::OURS);
        let clippy = |r: &rustc::Recorded| r.clippy(steps);
        report(
            "the kernel's clippy set",
            recorded.as_ref().map_or_else(said, clippy),
        );
        for other in rustc::OTHERS {
            let name = format!("the kernel's clippy set, crate {}", other.name);
            let recorded = rustc::Recorded::read(&kernel, other);
            report(&name, recorded.as_ref().map_or_else(said, clippy));
        }
        for variant in rustc::VARIANTS {
            let name = format!("no warnings with {}", variant.name);
            let compile = |r: &rustc::Recorded| r.variant(variant, steps);
            report(&name, recorded.as_ref().map_or_else(said, compile));
        }
    }
    report("unsafe blocks, counted", Ok(words::unsafe_blocks(&root)));

    match failed {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        n => bail!("{n} checks failed"),
    }
}

/// An error as a finding.
fn said(err: &Error) -> Finding {
    Err(vec![format!("{err:#}")])
}

/// The lines of a failed step that matter: those `wanted` picks, else the step's own error.
pub(crate) fn finding(steps: &Steps, name: &str, err: &Error, wanted: &[&str]) -> Finding {
    let text = steps.log_text(name);
    let lines: Vec<String> = text
        .lines()
        .filter(|l| wanted.iter().any(|w| l.trim_start().starts_with(w)))
        .map(|l| l.trim().to_owned())
        .collect();
    match lines.is_empty() {
        true => Err(vec![format!("{err:#}")]),
        false => Err(lines),
    }
}
