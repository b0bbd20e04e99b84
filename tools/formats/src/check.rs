// SPDX-License-Identifier: GPL-2.0
//! Whether the update from one kernel to another can be done, and which versions it would write.

use crate::shared::catalogue::WRITE;
use crate::shared::choose::{choose, Lack};
use crate::shared::cmdline::{hides, Switches};
use crate::side::{Origin, Side};

/// What is known besides the two images.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The new kernel's command line.
    pub cmdline: Option<Vec<u8>>,
    /// Formats of which nothing will be handed over.
    pub without: Vec<String>,
}

/// What is written of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub name: String,
    pub version: u32,
    /// The highest version that could have been.
    pub newest: u32,
}

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub writes: Vec<Write>,
    /// Why it cannot be, a sentence each; none if it can.
    pub faults: Vec<String>,
    /// What may be of interest besides.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether the update can be done.
    pub fn can(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether a format is written in an older version than it could be.
    pub fn is_older(&self) -> bool {
        self.writes.iter().any(|write| write.version < write.newest)
    }
}

/// Judges the update from `old` to `new`.
pub fn check(old: &Side, new: &Side, options: &Options) -> Verdict {
    let mut verdict = Verdict::default();
    let is_left_out = |name: &str| options.without.iter().any(|other| other == name);
    for name in &options.without {
        if !old.formats.iter().any(|format| format.name == *name) {
            verdict
                .notes
                .push(format!("{} has no format {name} to leave out", old.name));
        }
    }
    match &options.cmdline {
        Some(line) => {
            if let Some(off) = Switches::parse(line).off(new.flags) {
                let fault = format!("in {} with this command line {}", new.name, off.text());
                verdict.faults.push(fault);
            }
        }
        None => {
            if let Some(off) = Switches::default().off(new.flags) {
                let note = match new.origin {
                    Origin::Catalogue => format!("in {} by itself {}", new.name, off.text()),
                    _ => format!(
                        "{} needs kho=on liveupdate=on on its command line",
                        new.name
                    ),
                };
                verdict.notes.push(note);
            }
        }
    }
    let written = old.shared().filter(|format| !is_left_out(format.name));
    if !written.clone().any(|format| format.access & WRITE != 0) {
        let fault = format!("{} writes no format; it does no live updates", old.name);
        verdict.faults.push(fault);
    }
    let line = options.cmdline.as_deref().unwrap_or_default();
    // Mainline knows no such word.
    let hide = match new.origin {
        Origin::Catalogue => Switches::parse(line).hide,
        _ => &[],
    };
    let read = new
        .shared()
        .filter(|format| !hides(hide, format.name.as_bytes(), format.version));
    for choice in choose(written, read) {
        match choice.version {
            Ok(version) => verdict.writes.push(Write {
                name: choice.name.into(),
                version,
                newest: choice.newest,
            }),
            Err(lack) => verdict
                .faults
                .push(sentence(old, new, choice.name, choice.newest, lack)),
        }
    }
    verdict
}

fn sentence(old: &Side, new: &Side, name: &str, newest: u32, lack: Lack) -> String {
    let (old, new) = (&old.name, &new.name);
    match lack {
        Lack::Unknown => format!(
            "{old} writes the format {name}, version {newest}, and {new} does not read it; build the new \
             kernel with what reads it, or, if nothing of it is preserved, say --without {name}"
        ),
        Lack::Version(known) => format!(
            "{old} writes version {newest} of the format {name}, and {new} reads version {known} of it; \
             take a new kernel that reads {newest} as well, or update by way of one that writes {known}"
        ),
        Lack::Layout(version) => format!(
            "version {version} of the format {name} has one layout in {old} and another in {new}; one of \
             them was changed without a new version and must not be used"
        ),
    }
}
