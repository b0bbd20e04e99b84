// SPDX-License-Identifier: GPL-2.0

//! The formats that mainline reads and writes. Its images have no catalogue, so its release
//! decides.
//!
//! This file uses nothing but `core`: the kernel and the tool share it.

use super::catalogue::{Format, READ, WRITE};

/// The formats of mainline 7.2 and 7.3: each is read and written.
pub(crate) const FORMATS: [(&str, u32); 9] = [
    ("kho", 4),
    ("kho-vmalloc", 1),
    ("kho-block", 1),
    ("radix", 1),
    ("luo", 5),
    ("luo-flb", 1),
    ("memfd", 2),
    ("kexec-metadata", 1),
    ("memblock", 1),
];

/// The releases that these are the formats of.
const RELEASES: [&str; 2] = ["7.2", "7.3"];

/// The same as a catalogue has them; mainline has no fingerprints of layouts.
pub(crate) fn formats() -> impl Iterator<Item = Format<'static>> + Clone {
    FORMATS.iter().map(|(name, version)| Format {
        name,
        version: *version,
        access: READ | WRITE,
        layout: 0,
    })
}

/// Whether a kernel of this release, without a catalogue, is one of mainline's whose formats are
/// known: `7.3`, `7.3.4`, `7.3.4-1-amd64`. What came before the release, such as `7.3.0-rc1` and
/// `7.3.0-next-20260101`, may have had others.
pub(crate) fn is_known(release: &str) -> bool {
    let own = RELEASES.iter().find_map(|known| {
        let rest = release.strip_prefix(known)?;
        // The number of a stable release.
        let patch = rest.strip_prefix('.').filter(|patch| digits(patch) > 0);
        let own = patch.and_then(|patch| patch.get(digits(patch)..));
        Some(own.unwrap_or(rest))
    });
    own.is_some_and(|own| {
        let parted = own.is_empty() || own.starts_with(['.', '-', '+', '~', '_', ' ']);
        parted && !is_early(own)
    })
}

/// How many digits a text begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Whether what follows a release's numbers says that it is not one yet.
fn is_early(own: &str) -> bool {
    let candidate = own.strip_prefix("-rc").is_some_and(|n| digits(n) > 0);
    candidate || own.starts_with("-next-")
}
