// SPDX-License-Identifier: GPL-2.0
//! Gives disk space back.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{cache_dir, gib, project_root};
use crate::source::trees;
use crate::steps::Steps;

/// What is made again from the source, besides the kernels: compiled objects, logs.
const BUILT: [&str; 2] = ["ccache", "log"];

/// What is made again from the network.
const FETCHED: [&str; 5] = ["trees", "download", "apt", "tools", "locks"];

/// Removes what was built, with `all` also what was fetched, and says how much that was.
pub fn clean(all: bool, steps: &Steps) -> Result<()> {
    let mut folders: Vec<PathBuf> = BUILT.iter().map(|n| cache_dir().join(n)).collect();
    folders.extend(builds());
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

/// Every folder a kernel was built in.
fn builds() -> Vec<PathBuf> {
    let inside = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("build-")
    };
    inside(trees())
        .flat_map(|tree| inside(tree.path()))
        .map(|entry| entry.path())
        .filter(named)
        .collect()
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
