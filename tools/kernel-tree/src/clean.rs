// SPDX-License-Identifier: GPL-2.0
//! Gives disk space back.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{cache_dir, gib, project_root};
use crate::steps::Steps;

/// What is made again from the source: kernels, logs.
const BUILT: [&str; 2] = ["build", "log"];

/// What is made again from the network.
const FETCHED: [&str; 5] = ["src", "download", "apt", "tools", "locks"];

/// Removes what was built, with `all` also what was fetched, and says how much that was.
pub fn clean(all: bool, steps: &Steps) -> Result<()> {
    let mut folders: Vec<PathBuf> = BUILT.iter().map(|n| cache_dir().join(n)).collect();
    if all {
        folders.extend(FETCHED.iter().map(|n| cache_dir().join(n)));
    }
    let target = env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty());
    folders.push(target.map_or_else(|| project_root().join("target"), PathBuf::from));
    folders.push(project_root().join("fuzz/target"));
    let mut freed = 0;
    for folder in folders.iter().filter(|f| f.is_dir()) {
        let size = size_of(folder);
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
        steps.say(&format!(
            "removed {} ({:.1} GiB)",
            folder.display(),
            gib(size)
        ));
        freed += size;
    }
    steps.say(&format!("{:.1} GiB given back", gib(freed)));
    Ok(())
}

/// The bytes below `dir`, without following links.
fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
