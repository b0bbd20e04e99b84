// SPDX-License-Identifier: GPL-2.0
//! Every text file of the project says its license in its first three lines.

use std::fs;
use std::path::Path;

use super::{listed, Finding};

/// Files whose form leaves no room for the line.
const EXCEPT: [&str; 2] = ["Cargo.lock", ".gitignore"];

/// Folders whose files are data.
const DATA: [&str; 4] = ["golden", "goldens", "proptest-regressions", "corpus"];

pub(super) fn check(root: &Path) -> Finding {
    let listed = listed::files(root)?;
    let mut count = 0;
    let mut without = Vec::new();
    for name in listed.iter().filter(|name| !excepted(name)) {
        // Binary is not text.
        let Ok(bytes) = fs::read(root.join(name)) else {
            continue;
        };
        if bytes.contains(&0) {
            continue;
        }
        count += 1;
        let text = String::from_utf8_lossy(&bytes);
        if !text
            .lines()
            .take(3)
            .any(|l| l.contains("SPDX-License-Identifier:"))
        {
            without.push(format!("{name} has no SPDX line in its first three lines"));
        }
    }
    match without.is_empty() {
        true => Ok(format!("{count} files")),
        false => Err(without),
    }
}

fn excepted(name: &str) -> bool {
    let mut parts = name.split('/').rev();
    let file = parts.next().unwrap_or_default();
    EXCEPT.contains(&file) || parts.any(|folder| DATA.contains(&folder))
}

#[cfg(test)]
mod tests {
    use super::excepted;

    #[test]
    fn data_is_excepted_and_code_is_not() {
        assert!(excepted("Cargo.lock") && excepted("kho/golden/fdt.hex"));
        assert!(!excepted("kho/golden.rs"));
    }
}
