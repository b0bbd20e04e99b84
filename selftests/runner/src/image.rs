// SPDX-License-Identifier: GPL-2.0
//! The initramfs of a run: the guest program as /init, the kernels to go to in /boot, what is to be
//! run in /tests.

use crate::lab::Lab;
use crate::machine::Machine;
use anyhow::{Context, Result};
use cpio::{newc, NewcBuilder};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Writes the initramfs into the run's folder.
pub fn build(lab: &Lab, machine: &Machine, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("initramfs.cpio");
    let out = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut out = BufWriter::new(out);
    // selftests/kho mounts debugfs on /debugfs.
    for name in [
        "dev", "proc", "sys", "tmp", "boot", "tests", "debugfs", "bin",
    ] {
        let entry = NewcBuilder::new(name).mode(DIRECTORY).nlink(2);
        entry.write(&mut out, 0).finish()?;
    }
    if !machine.files.iter().any(|(name, _)| name == "init") {
        add(&mut out, "init", &lab.guest)?;
    }
    for (name, file) in &machine.files {
        add(&mut out, name, file)?;
    }
    for which in machine.carried() {
        let name = format!("boot/{}", which.name());
        add(&mut out, &name, &lab.kernel(which)?.bzimage)?;
    }
    newc::trailer(&mut out)?
        .flush()
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn add(out: &mut impl Write, name: &str, file: &Path) -> Result<()> {
    let mut content =
        File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let length = u32::try_from(content.metadata()?.len())?;
    let mut entry = NewcBuilder::new(name)
        .mode(PROGRAM)
        .write(&mut *out, length);
    std::io::copy(&mut content, &mut entry)?;
    entry.finish()?;
    Ok(())
}
