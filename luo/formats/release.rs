// SPDX-License-Identifier: GPL-2.0

//! A kernel's release, as the file of an image says it that has no catalogue.
//!
//! This file uses nothing but `core`: the kernel and the tool share it.

/// What the kernel's banner begins with, each bit the other way round: it stands in no program as
/// it is, so that it is found where the banner is. Read the right way: `Linux version `.
const BANNER: [u8; 14] = [
    !b'L', !b'i', !b'n', !b'u', !b'x', !b' ', !b'v', !b'e', !b'r', !b's', !b'i', !b'o', !b'n',
    !b' ',
];

/// Most bytes of a release, as uname(2) has it.
const LONGEST: usize = 64;

fn u16_at(image: &[u8], at: usize) -> Option<u16> {
    let bytes = image.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_le_bytes)
}

/// The first word of a text: what stands before a blank or the end.
fn word(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let end = bytes
        .iter()
        .position(|b| *b == 0 || b.is_ascii_whitespace())?;
    let word = core::str::from_utf8(bytes.get(..end)?).ok()?;
    (!word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic())).then_some(word)
}

/// Whether the image is an x86 bzImage, of a boot protocol that says its release.
pub(crate) fn is_bzimage(image: &[u8]) -> bool {
    let magic = image.get(0x202..0x206) == Some(b"HdrS");
    magic && u16_at(image, 0x206).is_some_and(|protocol| protocol >= 0x200)
}

/// Where in a bzImage the text stands that begins with the release.
pub(crate) fn place(image: &[u8]) -> Option<usize> {
    if !is_bzimage(image) {
        return None;
    }
    // A pointer of 0 says that there is none; it counts from the second sector, and must stay in
    // the sectors of the setup code, of which there are as many as byte 0x1f1 says, or 4.
    let pointer = usize::from(u16_at(image, 0x20e)?);
    let setup = match usize::from(*image.get(0x1f1)?) {
        0 => 4,
        sectors => sectors,
    };
    let at = pointer.checked_add(0x200)?;
    (pointer != 0 && at < (setup + 1) * 512).then_some(at)
}

/// The release that a bzImage's header names.
pub(crate) fn of_bzimage(image: &[u8]) -> Option<&str> {
    word(image.get(place(image)?..)?)
}

/// The release in the banner of a kernel that is not compressed: `Linux version 7.3.4 (...`.
pub(crate) fn of_banner(image: &[u8]) -> Option<&str> {
    let mut from = 0;
    while let Some(rest) = image.get(from..) {
        let at = rest.iter().position(|b| *b == !BANNER[0])?;
        let here = rest.get(at..)?;
        let banner = here.get(..BANNER.len());
        if banner.is_some_and(|text| text.iter().zip(BANNER).all(|(b, hidden)| *b == !hidden)) {
            let release = here.get(BANNER.len()..).and_then(word);
            // The same words stand elsewhere too, with something else after them.
            let number = |release: &&str| release.starts_with(|c: char| c.is_ascii_digit());
            if let Some(release) = release.filter(number) {
                return Some(release);
            }
        }
        from = from.checked_add(at)?.checked_add(1)?;
    }
    None
}

/// The release that the file of an image without a catalogue says.
pub(crate) fn of(image: &[u8]) -> Option<&str> {
    of_bzimage(image).or_else(|| of_banner(image))
}
