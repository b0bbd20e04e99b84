// SPDX-License-Identifier: GPL-2.0
//! Where things are kept between runs, who may use them at a time, and whether they fit.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use rustix::fs::{flock, statvfs, FlockOperation};

use crate::steps::Steps;

/// What a machine with an empty cache needs in all: packages, three trees, five kernels, downloads.
pub const FRESH_BYTES: u64 = 14 << 30;

/// What one more kernel tree or build folder needs, with room to spare.
pub const STEP_BYTES: u64 = 3 << 30;

/// The folder everything that can be made again lives in.
pub fn cache_dir() -> PathBuf {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache"),
    };
    base.join("liveupdate-rs")
}

/// The checkout: the nearest folder upwards that holds this crate, else where it was built.
pub fn project_root() -> PathBuf {
    let built_at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let here = env::current_dir().unwrap_or_default();
    let root = here
        .ancestors()
        .find(|d| d.join("tools/kernel-tree/Cargo.toml").is_file())
        .map_or(built_at, Path::to_path_buf);
    root.canonicalize().unwrap_or(root)
}

/// Held while a part of the cache is changed; two commands at once take turns.
#[must_use]
pub struct Held(#[allow(dead_code)] File);

/// Waits until nobody else works on the part `name` of the cache.
pub fn hold(name: &str, steps: &Steps) -> Result<Held> {
    let dir = cache_dir().join("locks");
    create_dir(&dir)?;
    let path = dir.join(name);
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        steps.say(&format!("waiting for another command that uses {name}"));
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(Held(file))
}

/// `create_dir_all` that says which folder could not be made.
pub fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create the folder {}", dir.display()))
}

/// Refuses, before anything is started, when fewer than `need` bytes are free where `dir` lies.
pub fn need_space(dir: &Path, need: u64) -> Result<()> {
    let Some(there) = dir.ancestors().find(|d| d.exists()) else {
        return Ok(());
    };
    let stat = statvfs(there)
        .with_context(|| format!("cannot ask for the free space of {}", there.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < need {
        bail!(
            "not enough disk space in {}: {:.1} GiB are free and {:.1} GiB are needed; free some or point XDG_CACHE_HOME to a larger disk",
            there.display(),
            gib(free),
            gib(need)
        );
    }
    Ok(())
}

/// Bytes as GiB, for people.
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}
