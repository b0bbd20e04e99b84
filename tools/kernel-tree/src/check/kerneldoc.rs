// SPDX-License-Identifier: GPL-2.0
//! kernel-doc: each function that drivers in C can call has it, and the kernel's own program reads
//! it without a warning.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{listed, Finding};

/// Folders of headers for drivers in C; definitions may be beside them.
const FOLDERS: [&str; 2] = ["include/linux/", "driver/c/"];

/// `kernel` is the kernel tree that has the program.
pub(super) fn check(root: &Path, kernel: &Path) -> Finding {
    let files = documented(root)?;
    let missing = missing(root, &files);
    if !missing.is_empty() {
        return Err(missing);
    }
    let out = Command::new("/usr/bin/python3")
        .current_dir(root)
        .arg(kernel.join("scripts/kernel-doc"))
        .args(["-none", "-Wall"])
        .args(&files)
        .output();
    let Ok(out) = out else {
        return Err(vec!["cannot run python3".into()]);
    };
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    match said.trim().is_empty() && out.status.success() {
        true => Ok(format!("{} files", files.len())),
        false => Err(said.lines().map(str::to_owned).collect()),
    }
}

/// Headers for drivers in C, and the sources beside them.
fn documented(root: &Path) -> Result<Vec<String>, Vec<String>> {
    let is_one = |name: &String| {
        let there = FOLDERS.iter().any(|folder| name.starts_with(folder));
        there && (name.ends_with(".h") || name.ends_with(".c"))
    };
    Ok(listed::files(root)?.into_iter().filter(is_one).collect())
}

/// A line for each function of the headers without kernel-doc.
fn missing(root: &Path, files: &[String]) -> Vec<String> {
    let read = |name: &String| fs::read_to_string(root.join(name)).unwrap_or_default();
    let all: String = files.iter().map(read).collect();
    let headers = files.iter().filter(|name| name.ends_with(".h"));
    let without = headers.flat_map(|name| {
        let lacks = |function: &String| {
            let starts = [format!(" * {function}() - "), format!(" * {function} - ")];
            !starts.iter().any(|start| all.contains(start))
        };
        let functions = declared(&read(name)).into_iter().filter(lacks);
        functions
            .map(|function| format!("{name}: {function}() has no kernel-doc"))
            .collect::<Vec<_>>()
    });
    without.collect()
}

/// Names of the functions that a header declares: what stands before the first bracket of a
/// declaration that begins in the first column.
fn declared(text: &str) -> Vec<String> {
    let begins = |line: &&str| {
        line.starts_with(|c: char| c.is_ascii_lowercase())
            && !["static", "typedef", "struct {", "enum", "union", "extern"]
                .iter()
                .any(|word| line.starts_with(word))
    };
    let name = |line: &str| {
        let (before, _) = line.split_once('(')?;
        let name = before.rsplit([' ', '*', '\t']).next()?;
        (!name.is_empty()).then(|| name.to_owned())
    };
    text.lines().filter(begins).filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_a_header_are_found() {
        let text = "struct a {\n\tint (*f)(int);\n};\n#define B(x) x\nint c(void);\nstruct a *d(int,\n\t    int e);\nstatic int f(void);\n";
        assert_eq!(declared(text), ["c", "d"]);
    }

    #[test]
    fn all_of_ours_have_it() {
        let root = crate::project_root();
        let files = documented(&root).unwrap();
        assert_eq!(missing(&root, &files), Vec::<String>::new());
        assert!(files.iter().any(|file| file.ends_with("kho_slab.h")));
    }
}
