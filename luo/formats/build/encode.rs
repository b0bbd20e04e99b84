// SPDX-License-Identifier: GPL-2.0

//! Makes the bytes of a catalogue. Programs on the host do that; the kernel only reads.

use super::catalogue::{
    checksum, is_name, magic, FORMAT, HEADER, MAX_BYTES, NAME, READ, RECORD, RELEASE, VERSION,
    WRITE,
};

/// A format, as [`super::catalogue::Format`] with a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) access: u32,
    pub(crate) layout: u32,
}

impl Entry {
    /// The text of a declaration: `NAME:VERSION:ACCESS[:LAYOUT]`.
    ///
    /// # Errors
    ///
    /// A sentence with what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = "it has to read NAME:VERSION:ACCESS or NAME:VERSION:ACCESS:LAYOUT";
        let mut parts = text.split(':');
        let (Some(name), Some(version), Some(access)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("`{text}` is no declaration of a format; {form}"));
        };
        let layout = parts.next();
        if parts.next().is_some() {
            return Err(format!("`{text}` has more than four parts; {form}"));
        }
        if !is_name(name) {
            return Err(format!(
                "`{name}` in `{text}` is no name of a format; use 1 to {} letters, digits, and - _ . ,",
                NAME - 1
            ));
        }
        let plain = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
        let version = match version.parse() {
            Ok(version) if plain => version,
            _ => {
                return Err(format!(
                "`{version}` in `{text}` is no version; use a number from 1 on, without zeros in front"
            ))
            }
        };
        let access = match access {
            "r" => READ,
            "w" => WRITE,
            "rw" => READ | WRITE,
            _ => {
                return Err(format!(
                    "`{access}` in `{text}` is no access; use r, w or rw"
                ))
            }
        };
        let layout = match layout {
            None => 0,
            Some(digits) => match u32::from_str_radix(digits, 16) {
                Ok(layout) if digits.len() == 8 && !digits.starts_with('+') => layout,
                _ => {
                    return Err(format!(
                        "`{digits}` in `{text}` is no fingerprint of a layout; use eight hex digits"
                    ))
                }
            },
        };
        Ok(Self {
            name: name.into(),
            version,
            access,
            layout,
        })
    }

    /// A line for a person: name, version, access, layout.
    pub(crate) fn line(&self) -> String {
        let Self { name, version, .. } = self;
        let layout = match self.layout {
            0 => "-".into(),
            layout => format!("{layout:08x}"),
        };
        format!("{name} {version} {} {layout}", access_text(self.access))
    }
}

/// `r`, `w` or `rw`; `-` for neither.
pub(crate) const fn access_text(access: u32) -> &'static str {
    match (access & READ != 0, access & WRITE != 0) {
        (true, true) => "rw",
        (true, false) => "r",
        (false, true) => "w",
        (false, false) => "-",
    }
}

/// The catalogue of a kernel of this release with these flags and formats, in their order.
///
/// # Errors
///
/// A sentence, if that makes no catalogue.
pub(crate) fn encode(release: &str, flags: u32, formats: &[Entry]) -> Result<Vec<u8>, String> {
    if release.len() >= RELEASE || release.contains('\0') {
        return Err(format!(
            "the release `{release}` does not fit the catalogue; it may have {} bytes",
            RELEASE - 1
        ));
    }
    let size = HEADER + formats.len() * RECORD;
    if size > MAX_BYTES {
        return Err(format!(
            "{} formats do not fit the catalogue; {} do",
            formats.len(),
            (MAX_BYTES - HEADER) / RECORD
        ));
    }
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut bytes = magic().to_vec();
    for word in [
        VERSION,
        number(HEADER),
        number(size),
        0,
        flags,
        number(formats.len()),
    ] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(release.as_bytes());
    bytes.resize(HEADER, 0);
    for format in formats {
        let end = bytes.len() + RECORD;
        bytes.extend((RECORD as u16).to_le_bytes());
        bytes.extend(FORMAT.to_le_bytes());
        for word in [format.access, format.version, format.layout] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(format.name.as_bytes());
        bytes.resize(end, 0);
    }
    seal(&mut bytes);
    Ok(bytes)
}

/// Writes the checksum of a whole catalogue.
pub(crate) fn seal(catalogue: &mut [u8]) {
    let sum = checksum(catalogue).to_le_bytes();
    if let Some(field) = catalogue.get_mut(28..32) {
        field.copy_from_slice(&sum);
    }
}
