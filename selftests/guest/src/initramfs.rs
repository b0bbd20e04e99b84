// SPDX-License-Identifier: GPL-2.0
//! The next generation's initramfs: made at run time from the files of this one, so that every
//! generation carries all it needs.

use anyhow::{Context, Result};
use cpio::{newc, NewcBuilder};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is packed, where it exists.
const CARRIED: [&str; 4] = ["/init", "/bin", "/boot", "/tests"];
/// Where the archive is made.
pub const ARCHIVE: &str = "/next.cpio";

/// Packs the archive and opens it for reading.
pub fn pack() -> Result<File> {
    let mut out =
        BufWriter::new(File::create(ARCHIVE).context("cannot create the next initramfs")?);
    for place in ["/dev", "/proc", "/sys", "/tmp", "/debugfs"] {
        directory(&mut out, Path::new(place))?;
    }
    for place in CARRIED {
        add(&mut out, Path::new(place))?;
    }
    newc::trailer(&mut out)?.flush()?;
    drop(out);
    File::open(ARCHIVE).context("cannot open the next initramfs")
}

/// Gives the archive's memory back.
pub fn forget() {
    let _ = fs::remove_file(ARCHIVE);
}

fn name(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

fn directory(out: &mut impl Write, path: &Path) -> io::Result<()> {
    let entry = NewcBuilder::new(&name(path)).mode(0o040_755).nlink(2);
    entry.write(&mut *out, 0).finish()?;
    Ok(())
}

fn add(out: &mut BufWriter<File>, path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if metadata.is_symlink() {
        // A scenario's own; it makes them anew.
        return Ok(());
    }
    if metadata.is_dir() {
        directory(out, path)?;
        let mut below: Vec<PathBuf> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        below.sort();
        return below.iter().try_for_each(|path| add(out, path));
    }
    let mode = 0o100_000 | (metadata.permissions().mode() & 0o777);
    let length = u32::try_from(metadata.len())?;
    let mut content = NewcBuilder::new(&name(path)).mode(mode).write(out, length);
    io::copy(&mut File::open(path)?, &mut content)?;
    content.finish()?;
    Ok(())
}
