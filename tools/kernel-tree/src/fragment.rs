// SPDX-License-Identifier: GPL-2.0
//! Kernel configuration fragments: the options a kernel is built with, and whether they took.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};

/// How deep fragments may include one another; more is a loop.
const MAX_DEPTH: usize = 8;

/// Options of a kernel, each set once, in the order they were first named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The option and its line, as it stands in a `.config`.
    lines: Vec<(String, String)>,
}

impl Fragment {
    /// Reads a fragment. A line `#include NAME` stands for the fragment `NAME` beside it.
    pub fn read(path: &Path) -> Result<Self> {
        let mut fragment = Self::default();
        fragment.add_file(path, 0)?;
        Ok(fragment)
    }

    fn add_file(&mut self, path: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!(
                "{} is included by itself; remove one #include",
                path.display()
            );
        }
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix("#include ") {
                let beside = path.parent().unwrap_or(Path::new("."));
                self.add_file(&beside.join(name.trim()), depth + 1)?;
            } else if let Some(option) = option_of(line) {
                self.set(option, line);
            } else if !line.is_empty() && !line.starts_with('#') {
                bail!(
                    "{} line {}: \"{line}\" is not an option; write CONFIG_NAME=value or # CONFIG_NAME is not set",
                    path.display(),
                    number + 1
                );
            }
        }
        Ok(())
    }

    /// The last line about an option wins.
    fn set(&mut self, option: &str, line: &str) {
        match self.lines.iter_mut().find(|(o, _)| o == option) {
            Some(entry) => entry.1 = line.to_owned(),
            None => self.lines.push((option.to_owned(), line.to_owned())),
        }
    }

    /// Adds `other`, whose lines win.
    pub fn add(&mut self, other: &Fragment) {
        for (option, line) in &other.lines {
            self.set(option, line);
        }
    }

    /// What `KCONFIG_ALLCONFIG` reads.
    pub fn text(&self) -> String {
        self.lines.iter().fold(String::new(), |mut out, (_, line)| {
            let _ = writeln!(out, "{line}");
            out
        })
    }

    /// The lines that `dot_config` does not have.
    pub fn missing_in(&self, dot_config: &str) -> Vec<&str> {
        let there: BTreeSet<&str> = dot_config.lines().map(str::trim_end).collect();
        let set: BTreeSet<&str> = there
            .iter()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| option_of(l))
            .collect();
        self.lines
            .iter()
            .filter(|(option, line)| {
                // An option whose menu is off is not named at all, which is "not set" as well.
                let off = line.starts_with('#') || line.ends_with("=n");
                if off {
                    set.contains(option.as_str())
                } else {
                    !there.contains(line.as_str())
                }
            })
            .map(|(_, line)| line.as_str())
            .collect()
    }
}

/// The option a line of a configuration is about.
fn option_of(line: &str) -> Option<&str> {
    let unset = line
        .strip_prefix("# ")
        .and_then(|rest| rest.strip_suffix(" is not set"));
    let name = match unset {
        Some(name) => name,
        None => line.split_once('=')?.0,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (name.starts_with("CONFIG_") && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_wins_and_includes_come_in() {
        let dir = tempfile::tempdir().unwrap();
        let (base, top) = (dir.path().join("a.config"), dir.path().join("b.config"));
        fs::write(&base, "# words\nCONFIG_A=y\nCONFIG_B=y\n").unwrap();
        fs::write(
            &top,
            "#include a.config\n# CONFIG_A is not set\nCONFIG_C=\"x=y\"\n",
        )
        .unwrap();
        let text = Fragment::read(&top).unwrap().text();
        assert_eq!(
            text,
            "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=\"x=y\"\n"
        );
    }

    #[test]
    fn what_is_no_option_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.config");
        fs::write(&path, "CONFIG_A=y\nB=y\n").unwrap();
        let err = Fragment::read(&path).unwrap_err().to_string();
        assert!(err.contains("line 2") && err.contains("B=y"), "{err}");
    }

    #[test]
    fn a_loop_of_includes_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.config");
        fs::write(&path, "#include a.config\n").unwrap();
        assert!(Fragment::read(&path).is_err());
    }

    #[test]
    fn options_that_did_not_stick_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.config");
        fs::write(
            &path,
            "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\n",
        )
        .unwrap();
        let fragment = Fragment::read(&path).unwrap();
        let missing = fragment.missing_in("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=y\n");
        assert_eq!(missing, ["CONFIG_B=m", "# CONFIG_D is not set"]);
    }
}
