// SPDX-License-Identifier: GPL-2.0

//! The settings for live updates in a kernel command line: `kho=`, `liveupdate=` and
//! `liveupdate.hide=`.
//!
//! Read as the next kernel will read it: words are parted by blanks outside of quotes, the last one
//! that has a meaning wins, `--` ends the kernel's part.
//!
//! This file uses nothing but `core`: the kernel and the tool share it.

use super::catalogue::{KHO_ON, LUO_ON};

/// The switches that a command line sets; `None` where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Switches<'a> {
    pub(crate) kho: Option<bool>,
    pub(crate) liveupdate: Option<bool>,
    /// Whether memory is tested by writing to it.
    pub(crate) memtest: bool,
    /// Formats that a kernel of ours does not have then, as [`hides`] reads it.
    pub(crate) hide: &'a [u8],
}

/// Whether a list, `NAME:VERSION,...`, names a format.
pub(crate) fn hides(list: &[u8], name: &[u8], version: u32) -> bool {
    list.split(|byte| *byte == b',').any(|one| {
        let number = one
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(b":"));
        let number = number.and_then(|number| core::str::from_utf8(number).ok());
        number.is_some_and(|number| number.parse() == Ok(version))
    })
}

/// A reason why a kernel cannot receive a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Off {
    Kho,
    Liveupdate,
    Memtest,
}

impl Off {
    /// For a person: what to do.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Kho => "kexec handover is off; put kho=on last on its command line",
            Self::Liveupdate => {
                "the live update orchestrator is off; put liveupdate=on last on its command line"
            }
            Self::Memtest => {
                "memtest= would overwrite what is preserved; take it off its command line"
            }
        }
    }
}

impl<'a> Switches<'a> {
    /// Reads the switches of a command line.
    pub(crate) fn parse(line: &'a [u8]) -> Self {
        let mut switches = Self::default();
        for (name, value) in words(line) {
            match (name, value, value.map(is_true)) {
                (b"liveupdate.hide", Some(list), _) => switches.hide = list,
                (b"kho", _, Some(Some(on))) => switches.kho = Some(on),
                (b"liveupdate", _, Some(Some(on))) => switches.liveupdate = Some(on),
                (b"memtest", passes, _) => switches.memtest = !passes.is_some_and(is_zero),
                _ => {}
            }
        }
        switches
    }

    /// What is off in a kernel with these [flags](super::catalogue::Catalogue::flags). Without KHO
    /// there is no orchestrator.
    pub(crate) fn off(&self, flags: u32) -> Option<Off> {
        if !self.kho.unwrap_or(flags & KHO_ON != 0) {
            Some(Off::Kho)
        } else if !self.liveupdate.unwrap_or(flags & LUO_ON != 0) {
            Some(Off::Liveupdate)
        } else if self.memtest {
            Some(Off::Memtest)
        } else {
            None
        }
    }
}

/// The words that are the kernel's: the name of each, and its value if it has one.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    // A string in C ends there.
    let mut rest = line.split(|byte| *byte == 0).next().unwrap_or_default();
    core::iter::from_fn(move || {
        rest = skip_blanks(rest);
        if rest.is_empty() {
            return None;
        }
        let (name, value, after) = word(rest);
        rest = after;
        (name != b"--" || value.is_some()).then_some((name, value))
    })
}

/// Whether a number is zero, in whatever base.
fn is_zero(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"0x").unwrap_or(number);
    !digits.is_empty() && digits.iter().all(|byte| *byte == b'0')
}

/// The kernel's idea of a blank.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0)
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let at = text.iter().position(|byte| !is_blank(*byte));
    at.and_then(|at| text.get(at..)).unwrap_or_default()
}

/// The first word: its name, its value if it has one, and what follows. The text must not be empty.
fn word(text: &[u8]) -> (&[u8], Option<&[u8]>, &[u8]) {
    let (quoted, text) = match text.strip_prefix(b"\"") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut inside = quoted;
    let ends = |byte: &u8| {
        let ends = is_blank(*byte) && !inside;
        inside ^= *byte == b'"';
        ends
    };
    let end = text.iter().position(ends).unwrap_or(text.len());
    let (whole, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    // A name has at least one byte.
    let equals = whole.iter().skip(1).position(|byte| *byte == b'=');
    let unquoted = |text| unquote(text, quoted);
    let Some(equals) = equals else {
        return (unquoted(whole), None, rest);
    };
    let name = whole.get(..equals + 1).unwrap_or_default();
    let value = whole.get(equals + 2..).unwrap_or_default();
    let value = match value.strip_prefix(b"\"") {
        Some(value) => unquote(value, true),
        None => unquoted(value),
    };
    (name, Some(value), rest)
}

/// Without the quote that ends a word that began with one.
fn unquote(text: &[u8], quoted: bool) -> &[u8] {
    match text.strip_suffix(b"\"") {
        Some(text) if quoted => text,
        _ => text,
    }
}

/// The truth of a value, as the kernel's switches have it; `None` if it has none and is passed
/// over.
fn is_true(value: &[u8]) -> Option<bool> {
    match value {
        [b'e' | b'E' | b'y' | b'Y' | b't' | b'T' | b'1', ..] => Some(true),
        [b'd' | b'D' | b'n' | b'N' | b'f' | b'F' | b'0', ..] => Some(false),
        [b'o' | b'O', b'n' | b'N', ..] => Some(true),
        [b'o' | b'O', b'f' | b'F', ..] => Some(false),
        _ => None,
    }
}
