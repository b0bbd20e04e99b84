// SPDX-License-Identifier: GPL-2.0

//! Which version of each format is written for the next kernel, or that it cannot read what there
//! is.
//!
//! The rule: of each format that the old kernel writes, the highest version that it may write and
//! the new one reads. A version whose layout is known on both sides and differs is not the same
//! one, whatever its number says.
//!
//! This is the tool's, between two catalogues. The kernel asks the same of its registry, a format
//! at a time (`choice.rs`): handlers come and go there, and versions are turned off.

use super::catalogue::{Format, READ, WRITE};

/// The version that is written of one format, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    pub(crate) name: &'a str,
    /// The highest version that the old kernel may write.
    pub(crate) newest: u32,
    /// The version that will be written.
    pub(crate) version: Result<u32, Lack>,
}

/// Why no version will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The new kernel reads no version of the format.
    Unknown,
    /// It reads versions of it, but none that the old kernel may write; the highest it reads.
    Version(u32),
    /// They have this version in common, but not its layout.
    Layout(u32),
}

impl Choice<'_> {
    /// Whether an older version is written than could be.
    pub(crate) fn is_older(&self) -> bool {
        self.version.is_ok_and(|version| version < self.newest)
    }
}

/// Whether both describe the same layout, as far as that is known.
pub(crate) fn same_layout(one: &Format<'_>, other: &Format<'_>) -> bool {
    one.layout == 0 || other.layout == 0 || one.layout == other.layout
}

/// A choice for each name that `old` writes, in the order of `old`.
///
/// `old` is what the running kernel has, without the versions that it must not write, and `new`
/// what the next kernel has. Whoever asks leaves out of `old` what will certainly not be handed
/// over.
pub(crate) fn choose<'a, 'b, O, N>(
    old: O,
    new: N,
) -> impl Iterator<Item = Choice<'a>> + use<'a, 'b, O, N>
where
    O: Iterator<Item = Format<'a>> + Clone,
    N: Iterator<Item = Format<'b>> + Clone,
{
    let written = old.filter(|format| format.access & WRITE != 0);
    let read = new.filter(|format| format.access & READ != 0);
    let all = written.clone();
    // Each name once, where it stands first.
    let first = written.enumerate().filter_map(move |(at, format)| {
        let before = || all.clone().take(at);
        let seen = before().any(|other| other.name == format.name);
        (!seen).then(|| (format.name, all.clone()))
    });
    first.map(move |(name, written)| one(name, written, read.clone()))
}

/// The choice for one name.
fn one<'a, 'b>(
    name: &'a str,
    written: impl Iterator<Item = Format<'a>>,
    read: impl Iterator<Item = Format<'b>> + Clone,
) -> Choice<'a> {
    let known = read.filter(|format| format.name == name);
    let mut newest = 0;
    let mut best: Option<u32> = None;
    let mut clash: Option<u32> = None;
    for format in written.filter(|format| format.name == name) {
        newest = newest.max(format.version);
        let Some(same) = known.clone().find(|other| other.version == format.version) else {
            continue;
        };
        if same_layout(&format, &same) {
            best = best.max(Some(format.version));
        } else {
            clash = clash.max(Some(format.version));
        }
    }
    let lack = || match (clash, known.map(|format| format.version).max()) {
        (Some(version), _) => Lack::Layout(version),
        (None, Some(version)) => Lack::Version(version),
        (None, None) => Lack::Unknown,
    };
    Choice {
        name,
        newest,
        version: best.ok_or_else(lack),
    }
}

/// Whether a choice could be made for everything that `old` writes.
pub(crate) fn can<'a, 'b>(
    old: impl Iterator<Item = Format<'a>> + Clone,
    new: impl Iterator<Item = Format<'b>> + Clone,
) -> bool {
    choose(old, new).all(|choice| choice.version.is_ok())
}
