// SPDX-License-Identifier: GPL-2.0
//! The files that belong to the project, as git knows them.

use std::path::Path;
use std::process::Command;

/// Names from the root on, of what is committed and of what would be with `git add`.
pub(super) fn files(root: &Path) -> Result<Vec<String>, Vec<String>> {
    let out = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output();
    let listed = match out {
        Ok(out) if out.status.success() => out.stdout,
        _ => return Err(vec!["git cannot list the project's files".into()]),
    };
    let text = String::from_utf8_lossy(&listed).into_owned();
    // A file that is listed but gone was removed and not committed yet.
    let there = |name: &&str| !name.is_empty() && root.join(name).is_file();
    Ok(text.split('\0').filter(there).map(str::to_owned).collect())
}
