// SPDX-License-Identifier: GPL-2.0
//! Which kernel a tree is, by its own Makefile.

use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};

/// The series our code is written for.
pub const SERIES: &str = "7.3";

/// The series before it, which speaks the same formats: from it and to it ours must update as well.
pub const OLDER: &str = "7.2";

/// The version a kernel tree's Makefile states, such as `7.3.4`.
///
/// # Errors
///
/// When `tree` is not a kernel tree.
pub fn of_tree(tree: &Path) -> Result<String> {
    if !tree.is_dir() {
        bail!(
            "{} is not a folder; name a Linux {SERIES} source tree",
            tree.display()
        );
    }
    let not_a_tree = || format!("{} is not a Linux source tree", tree.display());
    let text = fs::read_to_string(tree.join("Makefile")).with_context(not_a_tree)?;
    let field = |name: &str| {
        text.lines().take(10).find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let (Some(version), Some(patchlevel)) = (field("VERSION"), field("PATCHLEVEL")) else {
        bail!(
            "{}: its Makefile states no VERSION and PATCHLEVEL",
            not_a_tree()
        );
    };
    let sublevel = field("SUBLEVEL").unwrap_or("0");
    Ok(format!("{version}.{patchlevel}.{sublevel}"))
}

/// The version of `tree`, which must be one our code is written for.
pub fn supported(tree: &Path) -> Result<String> {
    let version = of_tree(tree)?;
    match is_of(&version, SERIES) {
        true => Ok(version),
        false => bail!(
            "{} is Linux {version}, and this code is for Linux {SERIES}; name a {SERIES} tree",
            tree.display()
        ),
    }
}

/// Whether a version such as `7.3.4` is one of `series`.
pub fn is_of(version: &str, series: &str) -> bool {
    version.rsplit_once('.').is_some_and(|(of, _)| of == series)
}
