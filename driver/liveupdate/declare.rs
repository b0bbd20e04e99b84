// SPDX-License-Identifier: GPL-2.0

//! Declarations of formats: what stands in `.modinfo` for each that the code reads or writes.
//!
//! `liveupdate_format=NAME:VERSION:ACCESS[:LAYOUT]`, as C has it with `MODULE_INFO()`: built-in
//! code with the name of its module and a dot in front, modules without. The catalogue is made of
//! these when the kernel is linked, and modinfo(8) shows a module's.
//!
//! This file uses nothing but `core`: the crate that has no drivers but formats of its own has it
//! too. The compiler alone calls these functions; `inline` keeps them out of the kernel.
#![allow(unreachable_pub)]

/// Room for the longest declaration: the names of a module and of a format, two numbers.
const ROOM: usize = 192;

/// A format that some code reads or writes.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)]
pub struct Declared {
    pub name: &'static str,
    pub version: u32,
    /// `r`, `w` or `rw`.
    pub access: &'static str,
    /// Fingerprint of the layout, 0 if unknown.
    pub layout: u32,
}

impl Declared {
    /// By name and version.
    #[allow(dead_code)]
    #[inline]
    pub const fn new(name: &'static str, version: u32, access: &'static str, layout: u32) -> Self {
        Self {
            name,
            version,
            access,
            layout,
        }
    }

    /// By a compatible string, padded with NUL or not: `memfd-v2` is version 2 of `memfd`, and one
    /// that does not end in a version is version 1 of itself.
    #[inline]
    pub const fn compatible(text: &'static [u8], access: &'static str, layout: u32) -> Self {
        let (name, version) = part(text);
        Self {
            name,
            version,
            access,
            layout,
        }
    }
}

/// The string that declares a format, with its NUL.
pub struct Line {
    bytes: [u8; ROOM],
    len: usize,
}

impl Line {
    /// The declaration of `format` by code of the built-in module `owner`, or of a module, which is
    /// named by its file: `None`.
    #[inline]
    pub const fn new(owner: Option<&[u8]>, format: &Declared) -> Self {
        let mut line = Self {
            bytes: [0; ROOM],
            len: 0,
        };
        if let Some(owner) = owner {
            let mut at = 0;
            while at < owner.len() && owner[at] != 0 {
                // As Kbuild names modules.
                line.push(if owner[at] == b'-' { b'_' } else { owner[at] });
                at += 1;
            }
            line.push(b'.');
        }
        line.text("liveupdate_format=");
        line.name(format.name);
        line.push(b':');
        assert!(format.version > 0, "a format's version is at least 1");
        line.number(format.version, 10, 1);
        line.push(b':');
        assert!(
            matches!(format.access.as_bytes(), b"r" | b"w" | b"rw"),
            "access is r, w or rw"
        );
        line.text(format.access);
        if format.layout != 0 {
            line.push(b':');
            line.number(format.layout, 16, 8);
        }
        line.push(0);
        line
    }

    /// Bytes, the NUL included.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The bytes, for those who need no array of them.
    #[allow(dead_code)]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The bytes, of which there are `N`.
    #[inline]
    pub const fn bytes<const N: usize>(&self) -> [u8; N] {
        assert!(N == self.len);
        let mut bytes = [0; N];
        let mut at = 0;
        while at < N {
            bytes[at] = self.bytes[at];
            at += 1;
        }
        bytes
    }

    #[inline]
    const fn push(&mut self, byte: u8) {
        assert!(self.len < ROOM, "the declaration of a format is too long");
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    const fn text(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() {
            self.push(text[at]);
            at += 1;
        }
    }

    #[inline]
    const fn name(&mut self, name: &str) {
        let bytes = name.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() < 48,
            "a format's name has 1 to 47 bytes"
        );
        let mut at = 0;
        while at < bytes.len() {
            let proper =
                bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'-' | b'_' | b'.' | b',');
            assert!(
                proper,
                "a format's name has letters, digits, and - _ . , only"
            );
            at += 1;
        }
        self.text(name);
    }

    #[inline]
    const fn number(&mut self, number: u32, base: u32, least: u32) {
        let mut digits = 1;
        let mut rest = number / base;
        while rest > 0 {
            digits += 1;
            rest /= base;
        }
        if digits < least {
            digits = least;
        }
        while digits > 0 {
            digits -= 1;
            let digit = (number / base.pow(digits)) % base;
            self.push(b"0123456789abcdef"[digit as usize]);
        }
    }
}

/// The name and the version in a compatible string, as the catalogue parts them when the kernel
/// runs, but by the compiler.
#[inline]
const fn part(text: &'static [u8]) -> (&'static str, u32) {
    let mut len = 0;
    while len < text.len() && text[len] != 0 {
        len += 1;
    }
    let mut first = len;
    while first > 0 && text[first - 1].is_ascii_digit() {
        first -= 1;
    }
    let marked = first > 2 && text[first - 1] == b'v' && text[first - 2] == b'-';
    // Ten digits are the most that a version has.
    let plain = first < len && len - first <= 10 && text[first] != b'0';
    if marked && plain {
        let mut version = 0u64;
        let mut at = first;
        while at < len {
            version = version * 10 + (text[at] - b'0') as u64;
            at += 1;
        }
        if version <= u32::MAX as u64 {
            return (utf8(text, first - 2), version as u32);
        }
    }
    (utf8(text, len), 1)
}

#[inline]
const fn utf8(text: &'static [u8], len: usize) -> &'static str {
    let (text, _) = text.split_at(len);
    match core::str::from_utf8(text) {
        Ok(text) => text,
        Err(_) => panic!("a compatible string is text"),
    }
}
