// SPDX-License-Identifier: GPL-2.0
//! The Debian package, by dpkg-deb.

use crate::place::{build, install, root, write};
use anyhow::{ensure, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONTROL: &str = "\
Package: luod
Version: @VERSION@
Architecture: amd64
Depends: passwd
Maintainer: The authors of liveupdate-rs <root@localhost>
Section: admin
Priority: optional
Description: live update: the agent and the tool
 luod takes services through a live update of the kernel, luoctl drives it.
 They need a kernel with /dev/liveupdate.
";

/// Makes the package in a folder, and says where it is.
pub fn make(out: &Path) -> Result<PathBuf> {
    let programs = build()?;
    let out = root().join(out);
    let tree = out.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    install(&programs, &tree, Path::new("/usr"))?;
    let version = env!("CARGO_PKG_VERSION");
    let control = CONTROL.replace("@VERSION@", version);
    let debian = tree.join("DEBIAN");
    write(&debian.join("control"), control.as_bytes(), 0o644)?;
    write(&debian.join("conffiles"), b"/etc/luod.toml\n", 0o644)?;
    for (name, script) in [
        ("postinst", &include_bytes!("../files/postinst")[..]),
        ("prerm", include_bytes!("../files/prerm")),
        ("postrm", include_bytes!("../files/postrm")),
    ] {
        write(&debian.join(name), script, 0o755)?;
    }
    let package = out.join(format!("luod_{version}_amd64.deb"));
    // gzip is what the smallest dpkg can read.
    let status = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group", "-Zgzip"])
        .arg(&tree)
        .arg(&package)
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot run dpkg-deb; install the package dpkg")?;
    ensure!(status.success(), "dpkg-deb failed");
    Ok(package)
}
