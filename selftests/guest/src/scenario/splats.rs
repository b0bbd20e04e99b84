// SPDX-License-Identifier: GPL-2.0
//! Looks for leaks with kmemleak, and says so; what else the kernel complains of, the runner reads
//! from the console.

use crate::event;
use anyhow::{Context, Result};
use std::fs;

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// Scans twice, as kmemleak reports only what two scans found unreferenced.
pub fn leaks() -> Result<()> {
    for _ in 0..2 {
        // A leak must be older than five seconds to be reported.
        std::thread::sleep(std::time::Duration::from_secs(6));
        fs::write(KMEMLEAK, "scan").context("cannot start a kmemleak scan")?;
    }
    let report = fs::read_to_string(KMEMLEAK).context("cannot read kmemleak's report")?;
    let first: Vec<&str> = report.lines().take(12).map(str::trim).collect();
    event::check(
        "no kmemleak report",
        report.trim().is_empty(),
        first.join(" | "),
    );
    Ok(())
}
