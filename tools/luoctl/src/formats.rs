// SPDX-License-Identifier: GPL-2.0
//! Which formats kernels read and write, and whether the running one, or another, can update to a
//! third.

use crate::command_line;
use crate::report::Report;
use anyhow::{anyhow, Result};
use formats::{check, running, show, Options, Side};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const REGISTRY: &str = "/sys/kernel/liveupdate/formats";

/// The formats of a kernel.
pub fn run(report: &Report, image: Option<&Path>, assume: bool) -> Result<()> {
    let side = match image {
        Some(image) => side(image, assume)?,
        None => this(assume)?,
    };
    report.tell(show::side(&side).trim_end(), show::side_json(&side));
    Ok(())
}

/// Whether one kernel, or the one that runs, can update to another.
pub fn judge(
    report: &Report,
    kernels: &[PathBuf],
    cmdline: Option<&str>,
    without: &[String],
    assume: bool,
) -> Result<bool> {
    let (old, new) = match kernels {
        [new] => (this(assume)?, side(new, assume)?),
        [old, new] => (side(old, assume)?, side(new, assume)?),
        _ => return Err(anyhow!("give one kernel, or two")),
    };
    let options = Options {
        cmdline: cmdline.map(|line| line.as_bytes().to_vec()),
        without: without.to_vec(),
    };
    let verdict = check(&old, &new, &options);
    report.tell(
        show::verdict(&old, &new, &verdict).trim_end(),
        show::verdict_json(&old, &new, &verdict),
    );
    Ok(verdict.can())
}

/// What speaks against an update from the running kernel to an image with this command line, and
/// what should be known besides.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    pub faults: Vec<String>,
    pub remarks: Vec<String>,
}

pub fn outlook(image: &Path, cmdline: &str) -> Outlook {
    let assume = command_line::takes_unknown_for_mainline();
    let sides = this(assume).and_then(|old| Ok((old, side(image, assume)?)));
    let (old, new) = match sides {
        Ok(sides) => sides,
        Err(error) => {
            return Outlook {
                faults: vec![error.to_string()],
                remarks: Vec::new(),
            }
        }
    };
    between(&old, &new, cmdline, &unused(Path::new(REGISTRY)))
}

/// A format that nothing is preserved in is no reason not to load: but then nothing of it can be
/// preserved.
fn between(old: &Side, new: &Side, cmdline: &str, unused: &[String]) -> Outlook {
    let mut options = Options {
        cmdline: Some(cmdline.as_bytes().to_vec()),
        without: unused.to_vec(),
    };
    let faults = check(old, new, &options).faults;
    options.without.clear();
    let all = check(old, new, &options).faults;
    let remarks = all.into_iter().filter(|fault| !faults.contains(fault));
    Outlook {
        remarks: remarks
            .map(|fault| format!("while this kernel is loaded: {fault}"))
            .collect(),
        faults,
    }
}

/// Formats of file handlers in which nothing is preserved, in any version. Other formats cannot be
/// read there, and are always used.
fn unused(registry: &Path) -> Vec<String> {
    let mut files: BTreeMap<String, u64> = BTreeMap::new();
    for name in fs::read_dir(registry).into_iter().flatten().flatten() {
        for version in fs::read_dir(name.path()).into_iter().flatten().flatten() {
            let users = fs::read_to_string(version.path().join("users")).ok();
            let users = users.and_then(|text| text.trim().parse::<u64>().ok());
            if let (Some(users), Ok(name)) = (users, name.file_name().into_string()) {
                *files.entry(name).or_default() += users;
            }
        }
    }
    let none = files.into_iter().filter(|(_, users)| *users == 0);
    none.map(|(name, _)| name).collect()
}

/// What the kernel says that the loaded image can take, in its own words and as an object; nothing
/// where it does not say.
pub fn loaded(text: &str) -> (String, serde_json::Value) {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let formats: Vec<&str> = lines.collect();
    let said = match (first.split_once(": "), formats.is_empty()) {
        (Some(("ready", release)), false) => {
            format!("Linux {release} is loaded; it reads {}", formats.join(", "))
        }
        (Some(("ready", release)), true) => format!("Linux {release} is loaded"),
        (Some(("unable", why)), _) => format!("one is loaded to which nothing can go: {why}"),
        _ => "none is loaded".to_owned(),
    };
    (said, json!({"state": first, "formats": formats}))
}

fn this(assume: bool) -> Result<Side> {
    running::side(Path::new("/"), assume).map_err(|error| anyhow!(error))
}

fn side(image: &Path, assume: bool) -> Result<Side> {
    Side::read(image, assume).map_err(|error| anyhow!(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::side::Origin;
    use formats::Format;

    fn kernel(name: &str, formats: &[(&str, u32)]) -> Side {
        let format = |(name, version): &(&str, u32)| Format {
            name: (*name).into(),
            version: *version,
            reads: true,
            writes: true,
            layout: None,
        };
        Side {
            name: name.into(),
            kind: "test".into(),
            release: "7.3.4".into(),
            origin: Origin::Catalogue,
            flags: 0,
            formats: formats.iter().map(format).collect(),
        }
    }

    const ON: &str = "kho=on liveupdate=on";

    #[test]
    fn what_is_not_used_is_no_fault_but_said() {
        let old = kernel("old", &[("kho", 4), ("memfd", 2), ("ring", 1)]);
        let new = kernel("new", &[("kho", 4), ("memfd", 2)]);
        let unused = ["ring".to_owned()];
        let outlook = between(&old, &new, ON, &unused);
        assert!(outlook.faults.is_empty(), "{outlook:?}");
        assert!(outlook.remarks.len() == 1 && outlook.remarks[0].contains("ring"));
        assert_eq!(between(&old, &new, ON, &[]).faults.len(), 1);
        assert_eq!(between(&old, &old, ON, &[]), Outlook::default());
    }

    #[test]
    fn the_command_line_must_turn_it_on() {
        let one = kernel("one", &[("kho", 4)]);
        for off in [
            "",
            "kho=on",
            "liveupdate=on",
            "kho=on liveupdate=on kho=off",
        ] {
            assert_eq!(between(&one, &one, off, &[]).faults.len(), 1, "{off}");
        }
    }

    #[test]
    fn users_are_counted_over_versions() {
        let registry = tempfile::tempdir().expect("a folder");
        for (name, version, users) in [
            ("memfd", "2", Some("0\n")),
            ("memfd", "3", Some("2\n")),
            ("ring", "1", Some("0\n")),
            ("kho", "4", None),
        ] {
            let folder = registry.path().join(name).join(version);
            fs::create_dir_all(&folder).expect("a folder");
            if let Some(users) = users {
                fs::write(folder.join("users"), users).expect("a file");
            }
        }
        assert_eq!(unused(registry.path()), ["ring"]);
        assert!(unused(&registry.path().join("none")).is_empty());
    }

    #[test]
    fn what_the_kernel_says_of_the_image_is_told() {
        assert_eq!(loaded("none").0, "none is loaded");
        assert_eq!(
            loaded("ready: 7.3.4\nkho 4\nmemfd 3\n").0,
            "Linux 7.3.4 is loaded; it reads kho 4, memfd 3"
        );
        let unable = loaded("unable: it was loaded by kexec_load\n").0;
        assert!(unable.ends_with("by kexec_load"), "{unable}");
    }
}
