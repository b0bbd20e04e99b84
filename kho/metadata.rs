// SPDX-License-Identifier: GPL-2.0

//! The "kexec-metadata" subtree: which kernel was before, and how many updates there have been.

use crate::sys::layout::{field, fingerprint};
use crate::sys::{declare::Declared, declare_format, log, RELEASE_LEN};

/// Name of the subtree.
pub(crate) const NAME: &core::ffi::CStr = c"kexec-metadata";

const VERSION: u32 = 1;
const RELEASE: usize = 4;
const COUNT: usize = RELEASE + RELEASE_LEN;

/// Bytes of version 1: version, release (NUL-padded, `__NEW_UTS_LEN + 1` bytes), count; packed,
/// native-endian. (Layout: include/linux/kho/abi/kexec_metadata.h.)
pub(crate) const LEN: usize = COUNT + 4;

declare_format! {
    /// The subtree.
    FORMAT = Declared::new("kexec-metadata", VERSION, "rw", LAYOUT);
}

const LAYOUT: u32 = fingerprint(&[&[
    field("version", 0, 4),
    field("previous_release", RELEASE, RELEASE_LEN),
    field("kexec_count", COUNT, 4),
]]);

/// The contents of version 1.
#[derive(Clone, Copy)]
pub(crate) struct Metadata {
    release: [u8; RELEASE_LEN],
    /// Updates since the last cold boot.
    pub(crate) count: u32,
}

/// Why a metadata blob was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Shorter than its version demands: this many bytes.
    Short(usize),
    /// The record has this version, which is unknown.
    Version(u32),
    /// The release is not NUL-terminated.
    Unterminated,
}

impl log::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short(len) => write!(f, "blob too small ({len} bytes, need {LEN})"),
            Self::Version(v) => write!(f, "version {v} not supported (expected {VERSION})"),
            Self::Unterminated => write!(f, "release string is not terminated"),
        }
    }
}

impl Metadata {
    /// `release` is cut to what fits, and is terminated always.
    pub(crate) fn new(release: &[u8], count: u32) -> Self {
        let mut padded = [0; RELEASE_LEN];
        for (to, from) in padded.iter_mut().take(RELEASE_LEN - 1).zip(release) {
            *to = *from;
        }
        Self {
            release: padded,
            count,
        }
    }

    /// The release as text; bytes that are no printable ASCII are shown as '?'.
    pub(crate) fn release(&self) -> impl log::Display + '_ {
        Printable(self)
    }

    /// As [`Self::release`], byte by byte.
    pub(crate) fn release_bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let text = self.release.iter().take_while(|byte| **byte != 0);
        text.map(|&byte| match byte {
            b' '..=b'~' => byte,
            _ => b'?',
        })
    }

    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let (version, rest) = bytes.split_at_mut(RELEASE);
        version.copy_from_slice(&VERSION.to_ne_bytes());
        let (release, count) = rest.split_at_mut(RELEASE_LEN);
        release.copy_from_slice(&self.release);
        count.copy_from_slice(&self.count.to_ne_bytes());
        bytes
    }

    /// Reads what another kernel wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let short = Unreadable::Short(bytes.len());
        let (version, rest) = bytes.split_first_chunk().ok_or(short)?;
        match u32::from_ne_bytes(*version) {
            VERSION => {}
            other => return Err(Unreadable::Version(other)),
        }
        let (release, rest) = rest.split_first_chunk::<RELEASE_LEN>().ok_or(short)?;
        let (count, _) = rest.split_first_chunk().ok_or(short)?;
        if !release.contains(&0) {
            return Err(Unreadable::Unterminated);
        }
        Ok(Self {
            release: *release,
            count: u32::from_ne_bytes(*count),
        })
    }
}

struct Printable<'a>(&'a Metadata);

impl log::Display for Printable<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        use core::fmt::Write;
        let mut bytes = self.0.release_bytes();
        bytes.try_for_each(|byte| f.write_char(char::from(byte)))
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_metadata))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn version_1_bytes() {
        let bytes = Metadata::new(b"7.3.4", 2).encode();
        assert!(bytes.len() == 73);
        assert!(bytes[..10] == [1, 0, 0, 0, b'7', b'.', b'3', b'.', b'4', 0]);
        assert!(bytes[69..] == [2, 0, 0, 0]);
        let back = Metadata::decode(&bytes).map(|m| (m.release, m.count));
        assert!(back == Ok((Metadata::new(b"7.3.4", 0).release, 2)));
    }

    #[test]
    fn broken_bytes() {
        let good = Metadata::new(&[b'x'; 100], 7).encode();
        assert!(Metadata::decode(&good).map(|m| m.count) == Ok(7));
        for len in 0..LEN {
            assert!(Metadata::decode(&good[..len]).is_err());
        }
        let mut wrong = good;
        wrong[0] = 9;
        assert!(Metadata::decode(&wrong).map(|_| ()) == Err(Unreadable::Version(9)));
        let mut endless = good;
        endless[4..69].fill(b'x');
        assert!(Metadata::decode(&endless).map(|_| ()) == Err(Unreadable::Unterminated));
    }
}
