// SPDX-License-Identifier: GPL-2.0
//! What needs no machine: the host tests, and a look at the objects our kernel was linked from.

use super::Played;
use crate::check::Check;
use crate::frames;
use crate::lab::{cargo, Lab, Which};
use anyhow::{Context, Result};
use std::path::Path;

const STEP: &str = "host tests";

pub fn play(lab: &Lab, _name: &str) -> Result<Played> {
    let log = lab.steps.log_path(STEP);
    let result = lab.steps.run(
        STEP,
        cargo().args(["test", "--workspace", "--release", "--no-fail-fast"]),
    );
    let text =
        std::fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut checks: Vec<Check> = text.lines().filter_map(test_line).collect();
    for check in checks.iter_mut().filter(|check| !check.passed) {
        if let Some(message) = panic_message(&text, &check.name) {
            check.detail = message;
        }
    }
    checks.push(Check::new(
        "cargo test succeeds",
        result.is_ok(),
        result
            .err()
            .map_or_else(String::new, |error| format!("{error:#}")),
    ));
    Ok(Played {
        checks,
        logs: vec![log],
    })
}

/// One test of cargo's output: `test name ... ok`.
fn test_line(line: &str) -> Option<Check> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    match verdict.trim() {
        "ok" => Some(Check::new(name, true, "")),
        "FAILED" => Some(Check::new(name, false, "its message is in the log")),
        // Ignored ones count neither way.
        _ => None,
    }
}

/// What a failed test said when it panicked.
fn panic_message(text: &str, test: &str) -> Option<String> {
    let (_, output) = text.split_once(&format!("---- {test} stdout ----"))?;
    let mut lines = output
        .lines()
        .skip_while(|line| !line.contains("panicked at "));
    let (_, place) = lines.next()?.split_once("panicked at ")?;
    Some(format!("{place} {}", lines.next().unwrap_or_default()))
}

/// The archives that vmlinux takes kernel/liveupdate and mm from name their members; and of what is
/// ours, no function takes too much of the stack.
pub fn linked(lab: &Lab, _name: &str) -> Result<Played> {
    let kernel = lab.kernel(Which::Ours)?;
    let build_dir = kernel
        .build_dir
        .as_deref()
        .context("a kernel given by path has no build folder")?;
    let archives = ["kernel/liveupdate", "mm"].map(|dir| build_dir.join(dir).join("built-in.a"));
    let mut names = String::new();
    for archive in &archives {
        let content =
            std::fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        names += &String::from_utf8_lossy(&content);
    }
    let theirs: Vec<&str> = [
        "kexec_handover.o",
        "kexec_handover_debugfs.o",
        "kexec_handover_debug.o",
        "kho_block.o",
        "luo_core.o",
        "luo_file.o",
        "luo_flb.o",
        "luo_session.o",
        "memfd_luo.o",
    ]
    .into_iter()
    .filter(|name| names.contains(&format!("/{name}")) || names.contains(&format!("\n{name}")))
    .collect();
    Ok(Played {
        checks: vec![
            Check::new(
                "no object of mainline's live update C is in the kernel",
                theirs.is_empty(),
                theirs.join(", "),
            ),
            small_frames(&build_dir.join("kernel/liveupdate/rust"))?,
        ],
        logs: archives.into(),
    })
}

/// No function but tests has a larger frame than the kernel allows C.
fn small_frames(objects: &Path) -> Result<Check> {
    let mut frames = frames::under(objects)?;
    frames.retain(|frame| !frames::is_test(&frame.function));
    let large = frames.partition_point(|frame| frame.bytes > frames::MOST);
    let shown: Vec<String> = frames
        .iter()
        .take(large.max(3))
        .map(|frame| format!("{} {}", frame.function, frame.bytes))
        .collect();
    Ok(Check::new(
        format!(
            "no function takes more than {} bytes of the stack",
            frames::MOST
        ),
        large == 0,
        shown.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_gives_its_own_message() {
        let log = "---- a::b stdout ----\n\nthread 'a::b' (7) panicked at kho/x.rs:5:3:\nno room\nstack backtrace:\n";
        assert_eq!(
            panic_message(log, "a::b").as_deref(),
            Some("kho/x.rs:5:3: no room")
        );
        assert_eq!(panic_message(log, "a::c"), None);
    }

    #[test]
    fn results_of_cargo_are_read_line_by_line() {
        assert!(
            test_line("test kho::keys::tests::round_trip ... ok").is_some_and(|check| check.passed)
        );
        assert!(test_line("test a - should panic ... FAILED").is_some_and(|check| !check.passed));
        assert!(test_line("test slow ... ignored").is_none());
        assert!(test_line("test result: ok. 3 passed; 0 failed").is_none());
    }
}
