// SPDX-License-Identifier: GPL-2.0
//! What goes where.

use crate::pages;
use anyhow::{bail, ensure, Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's folder: this crate lies in tools/packaging of it.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The programs, built and stripped: the folder that they are in.
pub struct Programs(pub PathBuf);

/// What they are called, and where they go.
const PROGRAMS: [(&str, &str); 3] = [("luod", "sbin"), ("luoctl", "bin"), ("formats", "bin")];

/// No program is larger: whoever installs them pays for it on each machine, and in each initramfs.
const MOST: u64 = 5 << 20;

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
        .args(PROGRAMS.map(|(program, _)| format!("--package={program}")))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("luod, luoctl and formats could not be built");
    }
    let built = target.join(TARGET).join("release");
    let folder = target.join("stripped");
    fs::create_dir_all(&folder)?;
    for (program, _) in PROGRAMS {
        strip(&built.join(program), &folder.join(program))?;
    }
    Ok(Programs(folder))
}

/// Without what only a debugger reads.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip")
        .arg("-o")
        .args([to, from])
        .status()
        .context("cannot run strip; install the package binutils")?;
    ensure!(status.success(), "strip failed");
    let bytes = fs::metadata(to)?.len();
    let name = to.display();
    ensure!(bytes <= MOST, "{name} has {bytes} bytes, more than {MOST}");
    Ok(())
}

/// A file to install, and its mode.
type Item = (PathBuf, Vec<u8>, u32);

/// Where the operator's own settings are. They are neither overwritten nor removed.
const CONFIG: &str = "/etc/luod.toml";

/// All but the programs.
fn items(prefix: &Path) -> Result<Vec<Item>> {
    let below_prefix = |unit: &str| unit.replace("@PREFIX@", &prefix.to_string_lossy());
    let unit = below_prefix(include_str!("../files/luod.service"));
    let texts: [(PathBuf, String); 5] = [
        (prefix.join("lib/systemd/system/luod.service"), unit),
        (
            prefix.join("lib/sysusers.d/luod.conf"),
            include_str!("../files/sysusers.conf").into(),
        ),
        (
            prefix.join("lib/tmpfiles.d/luod.conf"),
            include_str!("../files/tmpfiles.conf").into(),
        ),
        (
            prefix.join("share/doc/luod/copyright"),
            include_str!("../files/copyright").into(),
        ),
        (CONFIG.into(), include_str!("../../luod/luod.toml").into()),
    ];
    let mut items: Vec<Item> = texts
        .into_iter()
        .map(|(path, text)| (path, text.into_bytes(), 0o644))
        .collect();
    for (name, text) in pages::all(zsh(prefix))? {
        items.push((prefix.join("share").join(name), text, 0o644));
    }
    Ok(items)
}

/// Where zsh looks: what a distribution brings has a folder of its own.
fn zsh(prefix: &Path) -> &'static str {
    match prefix == Path::new("/usr") {
        true => "vendor-completions",
        false => "site-functions",
    }
}

fn below(destdir: &Path, path: &Path) -> PathBuf {
    destdir.join(path.strip_prefix("/").unwrap_or(path))
}

/// Installs everything; says how many files.
pub fn install(programs: &Programs, destdir: &Path, prefix: &Path) -> Result<usize> {
    let mut files = items(prefix)?;
    // The operator's own is not touched.
    files.retain(|(path, _, _)| path != Path::new(CONFIG) || !below(destdir, path).exists());
    for (program, folder) in PROGRAMS {
        let from = programs.0.join(program);
        let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        files.push((prefix.join(folder).join(program), content, 0o755));
    }
    let count = files.len();
    for (path, content, mode) in files {
        let path = below(destdir, &path);
        write(&path, &content, mode).with_context(|| {
            format!(
                "cannot install {}; PREFIX or DESTDIR names another place",
                path.display()
            )
        })?;
    }
    Ok(count)
}

/// Removes what [`install`] has put there, but not the configuration; says how many files.
pub fn uninstall(destdir: &Path, prefix: &Path) -> Result<usize> {
    let programs = PROGRAMS.map(|(program, folder)| prefix.join(folder).join(program));
    let others = items(prefix)?.into_iter().map(|(path, _, _)| path);
    let mut count = 0;
    for path in others.chain(programs) {
        if path == Path::new(CONFIG) {
            continue;
        }
        let path = below(destdir, &path);
        match fs::remove_file(&path) {
            Ok(()) => count += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("cannot remove {}: {error}", path.display()),
        }
        // Only the ones that are empty now, and ours.
        for folder in path.ancestors().skip(1).take(2) {
            if folder.ends_with("luod") {
                let _ = fs::remove_dir(folder);
            }
        }
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
        for (program, _) in PROGRAMS {
            fs::write(folder.path().join(program), "x").expect("written");
        }
        let programs = Programs(folder.path().to_owned());
        let to = folder.path().join("to");
        let first = install(&programs, &to, Path::new("/opt/lu")).expect("installed");
        let mode = |path: &str| {
            let data = fs::metadata(to.join(path)).expect(path);
            data.permissions().mode() & 0o777
        };
        assert_eq!(mode("opt/lu/sbin/luod"), 0o755);
        assert_eq!(mode("opt/lu/bin/formats"), 0o755);
        for file in [
            "share/man/man1/luoctl-load.1",
            "share/man/man5/luod.toml.5",
            "share/zsh/site-functions/_luoctl",
            "lib/sysusers.d/luod.conf",
            "lib/tmpfiles.d/luod.conf",
        ] {
            assert_eq!(mode(&format!("opt/lu/{file}")), 0o644);
        }
        let unit = fs::read_to_string(to.join("opt/lu/lib/systemd/system/luod.service"));
        assert!(unit
            .expect("a unit")
            .contains("ExecStart=/opt/lu/sbin/luod\n"));
        fs::write(to.join("etc/luod.toml"), "deadline = 5\n").expect("written");
        let again = install(&programs, &to, Path::new("/opt/lu")).expect("installed");
        assert_eq!(again + 1, first);
        let kept = fs::read_to_string(to.join("etc/luod.toml")).expect("kept");
        assert_eq!(kept, "deadline = 5\n");
        let gone = uninstall(&to, Path::new("/opt/lu")).expect("removed");
        assert_eq!(gone, again);
        assert_eq!(files(&to), [to.join("etc/luod.toml")]);
        assert_eq!(uninstall(&to, Path::new("/opt/lu")).expect("removed"), 0);
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => all.extend(files(&path)),
                false => all.push(path),
            }
        }
        all
    }

    /// systemd-analyze knows which settings there are; what it does not know yet is named in the
    /// unit.
    #[test]
    fn systemd_takes_the_unit() {
        let folder = tempfile::tempdir().expect("a folder");
        let unit = include_str!("../files/luod.service");
        let unit = unit.replace("@PREFIX@/sbin/luod", "/bin/true");
        let path = folder.path().join("luod.service");
        fs::write(&path, unit).expect("written");
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&path)
            .output()
            .expect("systemd-analyze is needed (package systemd)");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let strange =
            |line: &&str| line.contains("luod.service") && !line.contains("StorePreserve");
        let strange: Vec<&str> = said.lines().filter(strange).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }

    /// Run by dash as dpkg does, with programs that only note down what they are told.
    #[test]
    fn what_an_administrator_has_disabled_stays_so() {
        for (was_enabled, expected) in
            [(0, "enable luod.service"), (1, "update-state luod.service")]
        {
            let folder = tempfile::tempdir().expect("a folder");
            let log = folder.path().join("log");
            let stand_in = |name: &str, code: u32| {
                let text = format!(
                    "#!/bin/sh\necho {name} \"$@\" >> {}\n[ \"$2\" != was-enabled ] || exit {code}\n",
                    log.display()
                );
                write(&folder.path().join(name), text.as_bytes(), 0o755).expect("written");
            };
            stand_in("deb-systemd-helper", was_enabled);
            for name in ["systemctl", "getent"] {
                stand_in(name, 0);
            }
            let path = format!("{}:/usr/bin:/bin", folder.path().display());
            let status = Command::new("sh")
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/files/postinst"))
                .args(["configure", "0.1.0"])
                .env("PATH", path)
                .status();
            assert!(status.expect("sh").success());
            let log = fs::read_to_string(&log).expect("a log");
            assert!(log.contains(expected), "{log}");
            assert!(!log.contains("systemctl enable"), "{log}");
        }
    }
}
