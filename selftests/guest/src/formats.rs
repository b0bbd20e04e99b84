// SPDX-License-Identifier: GPL-2.0
//! Formats as /sys/kernel/liveupdate shows them.

use anyhow::{Context, Result};
use std::fs;

const PLACE: &str = "/sys/kernel/liveupdate";

fn path(name: &str, version: u32, file: &str) -> String {
    format!("{PLACE}/formats/{name}/{version}/{file}")
}

/// Whether this kernel has a version of a format.
pub fn has(name: &str, version: u32) -> bool {
    fs::exists(path(name, version, "read")).unwrap_or(false)
}

/// What a file of a format's folder says.
pub fn get(name: &str, version: u32, file: &str) -> Result<u64> {
    let path = path(name, version, file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("{path} says {text:?}"))
}

/// Writes `enable_write`.
pub fn enable(name: &str, version: u32, value: &str) -> std::io::Result<()> {
    fs::write(path(name, version, "enable_write"), value)
}

/// All of a file beside the folders of formats.
pub fn shown(file: &str) -> String {
    fs::read_to_string(format!("{PLACE}/{file}")).unwrap_or_default()
}
