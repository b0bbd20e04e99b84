// SPDX-License-Identifier: GPL-2.0
//! What a change from one kernel to another did to its formats, and which updates it broke.

use crate::check::{check, Options};
use crate::shared::choose::same_layout;
use crate::side::{Format, Side};

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What must not be, a sentence each.
    pub faults: Vec<String>,
    /// What is new, or gone without harm.
    pub notes: Vec<String>,
}

/// Compares what was with what is.
pub fn compare(old: &Side, new: &Side) -> Changes {
    let mut changes = Changes::default();
    for before in &old.formats {
        let title = format!("format {}, version {}", before.name, before.version);
        let Some(after) = same(new, before) else {
            changes.notes.push(format!("{title}: gone"));
            continue;
        };
        if !same_layout(&before.shared(), &after.shared()) {
            changes.faults.push(format!(
                "{title}: its layout changed, from {:08x} to {:08x}, and its version did not; give the new \
                 layout the next version, and keep reading the old one",
                before.layout.unwrap_or(0),
                after.layout.unwrap_or(0)
            ));
        }
        if before.layout.is_some() && after.layout.is_none() {
            let note = format!("{title}: the fingerprint of its layout is gone");
            changes.notes.push(note);
        }
        for (had, has, what) in [
            (before.reads, after.reads, "read"),
            (before.writes, after.writes, "written"),
        ] {
            match (had, has) {
                (true, false) => changes.notes.push(format!("{title}: no longer {what}")),
                (false, true) => changes.notes.push(format!("{title}: now {what}")),
                _ => {}
            }
        }
    }
    for after in &new.formats {
        if same(old, after).is_none() {
            let Format { name, version, .. } = after;
            let access = after.access();
            changes
                .notes
                .push(format!("format {name}, version {version}: new ({access})"));
        }
    }
    let options = Options::default();
    for (from, to, way) in [(old, new, "update"), (new, old, "way back")] {
        for fault in check(from, to, &options).faults {
            changes.faults.push(format!(
                "breaks the {way} from {} to {}: {fault}",
                from.name, to.name
            ));
        }
    }
    changes
}

fn same<'a>(side: &'a Side, format: &Format) -> Option<&'a Format> {
    let mut formats = side.formats.iter();
    formats.find(|f| (&f.name, f.version) == (&format.name, format.version))
}
