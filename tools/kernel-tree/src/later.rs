// SPDX-License-Identifier: GPL-2.0
//! bindgen from Debian 13, for Debian 12: compiling it takes minutes, fetching it seconds.
//!
//! It wants a newer C library than Debian 12 has, so that comes along, in a folder of its own, with
//! a script that starts one with the other. Nothing of it is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::apt;
use crate::cache::{cache_dir, create_dir};
use crate::make::{is_new_enough, later_bindgen};
use crate::steps::Steps;

/// The release whose packages are used.
const SUITE: &str = "trixie";

/// bindgen, and what it is linked with.
const PACKAGES: [&str; 3] = ["bindgen", "libc6", "libgcc-s1"];

/// Fetches and unpacks it.
///
/// # Errors
///
/// When the archive cannot be reached or no longer has it, and when it does not run here.
pub fn fetch_bindgen(steps: &Steps) -> Result<()> {
    let script = later_bindgen();
    let Some(folder) = script.parent() else {
        bail!("the cache folder {} is not usable", script.display());
    };
    let _ = fs::remove_dir_all(folder);
    let root = folder.join("root");
    let debs = cache_dir().join("download/bindgen");
    create_dir(&root)?;
    create_dir(&debs)?;
    for package in PACKAGES {
        let Some(deb) = apt::download(package, SUITE, &debs, steps)? else {
            bail!("{SUITE} has no package {package}");
        };
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&deb).arg(&root);
        steps.run(&format!("unpacking {package} of {SUITE}"), &mut unpack)?;
    }
    write_script(&script, &root.join("usr"))?;
    if !is_new_enough(&script) {
        bail!("the bindgen of {SUITE} does not run here");
    }
    Ok(())
}

/// Writes the program `script`, which starts the bindgen below `usr` with the C library there.
fn write_script(script: &Path, usr: &Path) -> Result<()> {
    let usr = usr.display();
    let libraries = format!("{usr}/lib/x86_64-linux-gnu");
    let text = format!(
        "#!/bin/sh\nexec '{libraries}/ld-linux-x86-64.so.2' --library-path '{libraries}' \
         '{usr}/bin/bindgen' \"$@\"\n"
    );
    fs::write(script, text).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} a program", script.display()))
}
