// SPDX-License-Identifier: GPL-2.0
//! What goes where.

use crate::pages;
use anyhow::{bail, Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's folder: this crate lies in tools/packaging of it.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The two programs, built.
pub struct Programs {
    pub luod: PathBuf,
    pub luoctl: PathBuf,
}

/// Builds them as one static binary each, where the tests have them too.
pub fn build() -> Result<Programs> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target = root().join("target/guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args([
            "build",
            "--release",
            "--quiet",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&target)
        .args(["--package=luod", "--package=luoctl"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("luod and luoctl could not be built");
    }
    let built = target.join(TARGET).join("release");
    Ok(Programs {
        luod: built.join("luod"),
        luoctl: built.join("luoctl"),
    })
}

/// Installs everything; says how many files.
pub fn install(programs: &Programs, destdir: &Path, prefix: &Path) -> Result<usize> {
    let below = |path: &Path| destdir.join(path.strip_prefix("/").unwrap_or(path));
    let mut files: Vec<(PathBuf, Vec<u8>, u32)> = Vec::new();
    let program =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    files.push((prefix.join("sbin/luod"), program(&programs.luod)?, 0o755));
    files.push((prefix.join("bin/luoctl"), program(&programs.luoctl)?, 0o755));
    let unit = include_str!("../files/luod.service");
    let unit = unit.replace("@PREFIX@", &prefix.to_string_lossy());
    files.push((
        prefix.join("lib/systemd/system/luod.service"),
        unit.into(),
        0o644,
    ));
    let config = include_str!("../../luod/luod.toml");
    // The operator's own is not touched.
    let at = Path::new("/etc/luod.toml");
    if !below(at).exists() {
        files.push((at.into(), config.into(), 0o644));
    }
    for (name, text) in pages::all()? {
        files.push((prefix.join("share").join(name), text, 0o644));
    }
    let count = files.len();
    for (path, content, mode) in files {
        let path = below(&path);
        write(&path, &content, mode).with_context(|| {
            format!(
                "cannot install {}; PREFIX or DESTDIR names another place",
                path.display()
            )
        })?;
    }
    Ok(count)
}

/// Through a new file, so that a program that runs can be replaced.
pub fn write(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    fs::write(&fresh, content)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_goes_below_the_prefix_and_a_configuration_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let stand_in = folder.path().join("program");
        fs::write(&stand_in, "x").expect("written");
        let programs = Programs {
            luod: stand_in.clone(),
            luoctl: stand_in,
        };
        let to = folder.path().join("to");
        let first = install(&programs, &to, Path::new("/opt/lu")).expect("installed");
        let mode = |path: &str| {
            let data = fs::metadata(to.join(path)).expect(path);
            data.permissions().mode() & 0o777
        };
        assert_eq!(mode("opt/lu/sbin/luod"), 0o755);
        assert_eq!(mode("opt/lu/share/man/man1/luoctl-load.1"), 0o644);
        let unit = fs::read_to_string(to.join("opt/lu/lib/systemd/system/luod.service"));
        assert!(unit
            .expect("a unit")
            .contains("ExecStart=/opt/lu/sbin/luod\n"));
        fs::write(to.join("etc/luod.toml"), "deadline = 5\n").expect("written");
        let again = install(&programs, &to, Path::new("/opt/lu")).expect("installed");
        assert_eq!(again + 1, first);
        let kept = fs::read_to_string(to.join("etc/luod.toml")).expect("kept");
        assert_eq!(kept, "deadline = 5\n");
    }
}
