// SPDX-License-Identifier: GPL-2.0
//! The running system: its catalogue in /sys/kernel/notes, and what it says in
//! /sys/kernel/liveupdate.

use std::fs;
use std::path::Path;

use crate::side::{Format, Origin, Side};

/// What the running kernel has. `root` is `/`, but for tests.
///
/// `/sys/kernel/liveupdate/formats/NAME/VERSION`, where there is one, adds the formats of modules,
/// and takes away the writing of versions whose `enable_write` is 0.
///
/// # Errors
///
/// A sentence.
pub fn side(root: &Path, assume: bool) -> Result<Side, String> {
    let notes = root.join("sys/kernel/notes");
    let data = fs::read(&notes).map_err(|err| {
        format!(
            "{}: cannot be read: {err}; is sysfs mounted on /sys?",
            notes.display()
        )
    })?;
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let name = "the running kernel";
    // Without a catalogue, the release decides as it does for an image.
    let mut side = match Side::of(name, data, false) {
        Ok(side) => side,
        Err(_) if !release.is_empty() => {
            let banner = format!("Linux version {} ", release.trim());
            Side::of(name, banner.into_bytes(), assume).map_err(|err| format!("{name}: {err}"))?
        }
        Err(err) => return Err(format!("{name}: {err}")),
    };
    side.kind = "running".into();
    if side.origin == Origin::Catalogue {
        side.origin = Origin::Running;
    }
    registry(&root.join("sys/kernel/liveupdate/formats"), &mut side);
    Ok(side)
}

/// Applies what the kernel's registry says, if there is one.
fn registry(folder: &Path, side: &mut Side) {
    for (name, path) in folders(folder) {
        for (version, path) in folders(&path) {
            let Ok(version) = version.parse::<u32>() else {
                continue;
            };
            let enabled = fs::read_to_string(path.join("enable_write"));
            let off = enabled.is_ok_and(|text| matches!(text.trim(), "0" | "N" | "n"));
            let same = |f: &&mut Format| f.name == name && f.version == version;
            match side.formats.iter_mut().find(same) {
                Some(format) => format.writes &= !off,
                None => side.formats.push(Format {
                    name: name.clone(),
                    version,
                    reads: true,
                    writes: !off,
                    layout: None,
                }),
            }
        }
    }
}

/// The folders in a folder, by name; none if there is no such folder.
fn folders(path: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut found: Vec<_> = folders
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    found.sort();
    found
}
