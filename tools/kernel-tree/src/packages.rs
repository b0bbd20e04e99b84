// SPDX-License-Identifier: GPL-2.0
//! The packages and the one crate that building and booting a kernel takes.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{anyhow, bail, Context, Result};

use crate::apt;
use crate::cache::{cache_dir, hold, need_space, FRESH_BYTES};
use crate::later;
use crate::make::{bindgen, libclang, own_bindgen, BINDGEN_VERSION};
use crate::source::trees;
use crate::steps::Steps;

/// What both releases call the same.
const COMMON: [&str; 25] = [
    "bc",
    "bison",
    "busybox-static",
    "ca-certificates",
    "ccache",
    "clang-19",
    "cpio",
    "debian-archive-keyring",
    "flex",
    "gcc",
    "kmod",
    "libc6-dev",
    "libclang-19-dev",
    "libelf-dev",
    "libfdt-dev",
    "libssl-dev",
    "lld-19",
    "llvm-19",
    "make",
    "perl",
    "python3-docutils",
    "qemu-system-x86",
    "rsync",
    "tar",
    "xz-utils",
];

/// Debian 12 keeps a newer Rust beside its own, under these names.
const DEBIAN_12: [&str; 4] = [
    "rust-web-clippy",
    "rust-web-src",
    "rustc-web",
    "rustfmt-web",
];

const DEBIAN_13: [&str; 5] = ["bindgen", "rust-clippy", "rust-src", "rustc", "rustfmt"];

/// Which Debian this is.
pub struct Debian {
    pub codename: String,
    rust: &'static [&'static str],
}

impl Debian {
    /// The release this machine runs.
    ///
    /// # Errors
    ///
    /// When it is not a Debian whose package names we know.
    pub fn here() -> Result<Self> {
        let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self::from_os_release(&text)
    }

    fn from_os_release(text: &str) -> Result<Self> {
        let field = |name: &str| {
            text.lines()
                .filter_map(|l| l.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim_matches('"').to_owned())
        };
        let name = field("PRETTY_NAME").unwrap_or_else(|| "an unknown system".into());
        let debian = field("ID").is_some_and(|id| id == "debian");
        // testing and unstable state no number; they are newer than 13.
        let number = field("VERSION_ID").map_or(Ok(13), |v| v.parse::<u32>());
        let rust: &[&str] = match number {
            Ok(12) if debian => &DEBIAN_12,
            Ok(13..) if debian => &DEBIAN_13,
            _ => bail!("this machine runs {name}, and packages are only known for Debian 12 and 13; use one of these"),
        };
        let codename =
            field("VERSION_CODENAME").context("/etc/os-release states no VERSION_CODENAME")?;
        Ok(Self { codename, rust })
    }

    fn packages(&self) -> Vec<&'static str> {
        COMMON.iter().chain(self.rust).copied().collect()
    }
}

/// Installs what is missing of the packages, and bindgen.
///
/// # Errors
///
/// When this is not Debian on x86-64, when the disk is too small, and when apt or cargo fail.
pub fn ensure_packages(steps: &Steps) -> Result<()> {
    let arch = env::consts::ARCH;
    if arch != "x86_64" {
        bail!("this machine is {arch}, and kernels are only built and booted on x86_64; use such a machine");
    }
    let debian = Debian::here()?;
    if !trees().is_dir() {
        need_space(&cache_dir(), FRESH_BYTES)?;
    }
    let _held = hold("packages", steps)?;
    let missing = missing(&debian.packages())?;
    if !missing.is_empty() {
        steps.say(&format!("packages to install: {}", missing.join(" ")));
        apt::run(
            steps,
            "updating the package lists",
            apt::as_root("apt-get")?.arg("update"),
        )?;
        let mut install = apt::as_root("apt-get")?;
        install
            .args(["install", "-y", "--no-install-recommends"])
            .args(&missing);
        apt::run(steps, "installing packages", &mut install)?;
    }
    ensure_bindgen(steps)
}

/// Those of `wanted` that are not installed.
fn missing(wanted: &[&'static str]) -> Result<Vec<&'static str>> {
    let out = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\\n"])
        .args(wanted)
        .output()
        .context("cannot run dpkg-query")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let there: BTreeSet<&str> = text
        .lines()
        .filter_map(|l| l.strip_suffix(" installed"))
        .collect();
    Ok(wanted
        .iter()
        .copied()
        .filter(|p| !there.contains(p))
        .collect())
}

/// bindgen of a later release where this one's is missing or too old, else from its crate.
fn ensure_bindgen(steps: &Steps) -> Result<()> {
    if bindgen().is_some() {
        return Ok(());
    }
    match later::fetch_bindgen(steps) {
        Ok(()) => return Ok(()),
        Err(err) => steps.say(&format!("{err:#}; bindgen is compiled instead")),
    }
    let bin = own_bindgen();
    let Some(root) = bin.parent().and_then(Path::parent) else {
        bail!("the cache folder {} is not usable", bin.display());
    };
    let name = format!("installing bindgen {BINDGEN_VERSION}");
    let mut cmd = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cmd.env("LIBCLANG_PATH", libclang())
        .args([
            "install",
            "bindgen-cli",
            "--locked",
            "--version",
            BINDGEN_VERSION,
            "--root",
        ])
        .arg(root);
    steps
        .run(&name, &mut cmd)
        .map_err(|err| match apt::explain(&steps.log_text(&name)) {
            Some(why) => anyhow!(
                "{name} failed: {why}; see {}",
                steps.log_path(&name).display()
            ),
            None => err,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_differ_in_their_rust() {
        let rust = |text: &str| Debian::from_os_release(text).map(|d| d.rust);
        let twelve = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
        assert_eq!(rust(twelve).unwrap(), &DEBIAN_12);
        let thirteen = "ID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n";
        assert_eq!(rust(thirteen).unwrap(), &DEBIAN_13);
        assert_eq!(
            rust("ID=debian\nVERSION_CODENAME=sid\n").unwrap(),
            &DEBIAN_13
        );
    }

    #[test]
    fn other_systems_are_named() {
        let err = |text: &str| Debian::from_os_release(text).err().map(|e| e.to_string());
        let other = err("PRETTY_NAME=\"Other 9\"\nID=other\nVERSION_ID=9\n").unwrap();
        assert!(other.contains("Other 9"), "{other}");
        let old = err("PRETTY_NAME=\"Debian 11\"\nID=debian\nVERSION_ID=\"11\"\n").unwrap();
        assert!(old.contains("Debian 11"), "{old}");
    }
}
