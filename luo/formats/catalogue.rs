// SPDX-License-Identifier: GPL-2.0

//! The catalogue's bytes: which formats a kernel reads and writes, as they stand in its image.
//!
//! Made when the kernel is built, from what the code registers, and found by anyone with the file:
//! the kernel that is to boot it, and tools. All numbers are little-endian.
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 16 | [`magic`] |
//! | 16 | 4 | version of this layout, [`VERSION`] |
//! | 20 | 4 | bytes before the first record |
//! | 24 | 4 | bytes in all |
//! | 28 | 4 | CRC-32 of all bytes, these four counted as zero |
//! | 32 | 4 | what the kernel does unless its command line says otherwise: [`KHO_ON`], [`LUO_ON`] |
//! | 36 | 4 | records |
//! | 40 | 64 | the kernel's release, padded with NUL |
//!
//! A record begins with its length, the length included, and its kind, 16 bits each. A format's
//! ([`FORMAT`]) goes on with: access (u32: [`READ`], [`WRITE`]), version (u32), fingerprint of the
//! layout (u32, 0 if unknown), name (48 bytes, padded with NUL). A reader skips records of a kind
//! that it does not know, and what is longer than it knows, in the header too: later versions may
//! add both, and nothing else.
//!
//! This file uses nothing but `core`: the kernel, the program that makes the catalogue, and tools
//! share it.

/// Version of the layout.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the header of this version.
pub(crate) const HEADER: usize = 104;
/// Bytes of a format's record of this version.
pub(crate) const RECORD: usize = 64;
/// Most bytes of a catalogue.
pub(crate) const MAX_BYTES: usize = 64 << 10;
/// Bytes of a format's name, and of the release, with at least one NUL.
pub(crate) const NAME: usize = 48;
pub(crate) const RELEASE: usize = 64;

/// Most beginnings of catalogues in an image that are none; more are a lie, and would cost a
/// checksum each.
const MOST_BAD: usize = 16;

/// Kind of a record that is a format's.
pub(crate) const FORMAT: u16 = 1;

/// The kernel decodes it.
pub(crate) const READ: u32 = 1;
/// The kernel encodes it.
pub(crate) const WRITE: u32 = 2;

/// KHO is on without `kho=on`.
pub(crate) const KHO_ON: u32 = 1;
/// The orchestrator is on without `liveupdate=on`.
pub(crate) const LUO_ON: u32 = 2;

/// Offset of the checksum.
const CHECKSUM: usize = 28;

/// What a catalogue begins with, each bit the other way round: it stands in no program as it is, so
/// that the image of a kernel has it where its catalogue is and nowhere else. Read the right way:
/// `\x89LUO formats\r\n\x1a\n`.
const HIDDEN: [u32; 4] = [0xb0aa_b376, 0x8d90_99df, 0x8c8b_9e92, 0xf5e5_f5f2];

/// The bytes that a catalogue begins with.
pub(crate) fn magic() -> [u8; 16] {
    let mut magic = [0; 16];
    for (to, word) in magic.chunks_exact_mut(4).zip(HIDDEN) {
        to.copy_from_slice(&(!word).to_le_bytes());
    }
    magic
}

/// A fault of a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Shorter than it says, or than it must be; or longer than [`MAX_BYTES`].
    Size,
    Checksum,
    /// A record's length, or the number of records.
    Records,
    /// A format without a proper name or version.
    Format,
    /// The same format twice.
    Twice,
}

impl Fault {
    /// For a person.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Size => "its size cannot be",
            Self::Checksum => "its checksum is wrong",
            Self::Records => "its records do not add up",
            Self::Format => "a format has no proper name or version",
            Self::Twice => "a format stands in it twice",
        }
    }
}

/// A format as a catalogue has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: u32,
    /// [`READ`], [`WRITE`], or both.
    pub(crate) access: u32,
    /// Fingerprint of the layout, 0 if unknown: equal formats have equal ones.
    pub(crate) layout: u32,
}

/// A catalogue, found to be whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Catalogue<'a> {
    bytes: &'a [u8],
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

/// CRC-32 (IEEE 802.3) of a catalogue, the four bytes of its checksum counted as zero.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut sum = !0u32;
    for (at, byte) in bytes.iter().enumerate() {
        let hole = (CHECKSUM..CHECKSUM + 4).contains(&at);
        sum ^= u32::from(if hole { 0 } else { *byte });
        for _ in 0..8 {
            let low = sum & 1;
            sum = (sum >> 1) ^ (POLYNOMIAL & low.wrapping_neg());
        }
    }
    !sum
}

/// The text in a padded field.
fn text(field: &[u8]) -> Option<&str> {
    let text = field.split(|byte| *byte == 0).next()?;
    core::str::from_utf8(text).ok()
}

/// Whether a format may be called that: 1 to 47 bytes of letters, digits, and `- _ . ,`.
pub(crate) fn is_name(name: &str) -> bool {
    let proper = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,".contains(&byte);
    // A folder of sysfs has this name.
    let dots = name == "." || name == "..";
    !dots && !name.is_empty() && name.len() < NAME && name.bytes().all(proper)
}

/// Parts a compatible string into name and version: `memfd-v2` is version 2 of `memfd`. One that
/// does not end in a version is version 1 of itself.
pub(crate) fn part(compatible: &str) -> (&str, u32) {
    let parted = compatible.rsplit_once("-v").and_then(|(name, version)| {
        // As the number would be written, so that no two strings are one format.
        let digits = version.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits && !version.starts_with('0');
        let version = version.parse().ok().filter(|_| plain && !name.is_empty())?;
        Some((name, version))
    });
    parted.unwrap_or((compatible, 1))
}

impl<'a> Catalogue<'a> {
    /// The catalogue that begins with these bytes, and may end before them.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let header = size_at(bytes, 20).ok_or(Fault::Size)?;
        let size = size_at(bytes, 24).ok_or(Fault::Size)?;
        if header < HEADER || size < header || size > MAX_BYTES {
            return Err(Fault::Size);
        }
        let bytes = bytes.get(..size).ok_or(Fault::Size)?;
        if u32_at(bytes, CHECKSUM) != Some(checksum(bytes)) {
            return Err(Fault::Checksum);
        }
        let catalogue = Self { bytes };
        let count = size_at(bytes, 36).ok_or(Fault::Size)?;
        let mut found = 0;
        let mut rest = catalogue.records();
        while !rest.is_empty() {
            (_, _, rest) = split(rest).ok_or(Fault::Records)?;
            found += 1;
        }
        if found != count {
            return Err(Fault::Records);
        }
        let formats = || catalogue.raw().map(decode);
        for (at, format) in formats().enumerate() {
            let format = format.ok_or(Fault::Format)?;
            let same = |other: &Option<Format<'_>>| {
                other.is_some_and(|o| (o.name, o.version) == (format.name, format.version))
            };
            if formats().take(at).any(|other| same(&other)) {
                return Err(Fault::Twice);
            }
        }
        Ok(catalogue)
    }

    /// The catalogue in the file of a kernel, at a multiple of four bytes; `None` if there is none.
    ///
    /// # Errors
    ///
    /// There is something that should be one, and none that is.
    pub(crate) fn find(image: &'a [u8]) -> Result<Option<Self>, Fault> {
        let mut fault = None;
        let mut bad = 0;
        let [first, ..] = (!HIDDEN[0]).to_le_bytes();
        for (at, word) in image.chunks_exact(4).enumerate() {
            if word.first() != Some(&first) || !begins(image, at * 4) {
                continue;
            }
            match Self::parse(image.get(at * 4..).unwrap_or_default()) {
                Ok(catalogue) => return Ok(Some(catalogue)),
                Err(err) => fault = Some(err),
            }
            bad += 1;
            if bad == MOST_BAD {
                break;
            }
        }
        fault.map_or(Ok(None), Err)
    }

    /// All its bytes.
    #[allow(dead_code)] // Not in the kernel: tools and tests ask for it.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The kernel's release; empty if it is not text.
    pub(crate) fn release(&self) -> &'a str {
        let field = self.bytes.get(40..40 + RELEASE).unwrap_or_default();
        text(field).unwrap_or_default()
    }

    /// [`KHO_ON`], [`LUO_ON`], and flags of later versions.
    pub(crate) fn flags(&self) -> u32 {
        u32_at(self.bytes, 32).unwrap_or_default()
    }

    /// All formats, each once.
    pub(crate) fn formats(&self) -> impl Iterator<Item = Format<'a>> + Clone {
        self.raw().filter_map(decode)
    }

    fn records(&self) -> &'a [u8] {
        let header = size_at(self.bytes, 20).unwrap_or(HEADER);
        self.bytes.get(header..).unwrap_or_default()
    }

    /// The records of formats.
    fn raw(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.records();
        let records = core::iter::from_fn(move || {
            let (kind, record, after) = split(rest)?;
            rest = after;
            Some((kind, record))
        });
        records.filter_map(|(kind, record)| (kind == FORMAT).then_some(record))
    }
}

/// Whether a catalogue begins there, as far as its magic tells.
fn begins(image: &[u8], at: usize) -> bool {
    let mut words = HIDDEN.iter().zip((at..).step_by(4));
    words.all(|(word, at)| u32_at(image, at) == Some(!*word))
}

/// The first record with its kind, and what follows it.
fn split(records: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = usize::from(u16_at(records, 0)?);
    let kind = u16_at(records, 2)?;
    let record = records.get(..len).filter(|record| record.len() >= 4)?;
    Some((kind, record, records.get(len..)?))
}

fn decode(record: &[u8]) -> Option<Format<'_>> {
    let name = text(record.get(16..16 + NAME)?)?;
    let version = u32_at(record, 8)?;
    let format = Format {
        name,
        version,
        access: u32_at(record, 4)?,
        layout: u32_at(record, 12)?,
    };
    (is_name(name) && version > 0).then_some(format)
}
