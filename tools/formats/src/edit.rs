// SPDX-License-Identifier: GPL-2.0
//! Images for tests: an image as it was built, but for its catalogue or its release.

use crate::shared::catalogue::{Catalogue, Format, FORMAT};
use crate::shared::encode::{encode, seal, Entry};
use crate::shared::release;

/// A change of an image. A catalogue that stands in it several times is changed everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A version of a format is not in the catalogue.
    Hide { name: String, version: u32 },
    /// A format is read and not written.
    ReadOnly { name: String, version: u32 },
    /// The catalogue's checksum is wrong.
    Corrupt,
    /// There is no catalogue.
    Remove,
    /// The header of a bzImage names another release.
    Release(String),
}

/// The bytes of a catalogue of these formats, for images that are made up. `flags` are those of the
/// catalogue: 1 for KHO, 2 for the orchestrator, each on without a command line.
///
/// # Errors
///
/// A sentence.
pub fn catalogue(release: &str, flags: u32, formats: &[crate::Format]) -> Result<Vec<u8>, String> {
    let entry = |format: &crate::Format| Entry {
        name: format.name.clone(),
        version: format.version,
        access: format.shared().access,
        layout: format.layout.unwrap_or(0),
    };
    let entries: Vec<Entry> = formats.iter().map(entry).collect();
    encode(release, flags, &entries)
}

/// The image with a change.
///
/// # Errors
///
/// A sentence: the image has nothing that could be changed so.
pub fn edit(image: &[u8], edit: &Edit) -> Result<Vec<u8>, String> {
    let mut image = image.to_vec();
    if let Edit::Release(release) = edit {
        set_release(&mut image, release)?;
        return Ok(image);
    }
    let places = places(&image)?;
    if places.is_empty() {
        return Err("the image has no catalogue to edit".into());
    }
    for range in places {
        let bytes = image.get_mut(range).unwrap_or_default();
        match edit {
            Edit::Hide { name, version } => {
                // A record of a kind that nobody knows is passed over.
                record(bytes, name, *version)?[2..4].fill(0);
                seal(bytes);
            }
            Edit::ReadOnly { name, version } => {
                record(bytes, name, *version)?[4] &= !2;
                seal(bytes);
            }
            Edit::Corrupt => bytes[28] ^= 1,
            Edit::Remove => bytes.fill(0),
            Edit::Release(_) => {}
        }
    }
    Ok(image)
}

/// Where the catalogues of an image stand.
fn places(image: &[u8]) -> Result<Vec<std::ops::Range<usize>>, String> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(rest) = image.get(from..) {
        let Some(catalogue) = Catalogue::find(rest).map_err(|fault| fault.text())? else {
            break;
        };
        let bytes = catalogue.bytes();
        // Both are parts of the same bytes.
        let at = from + (bytes.as_ptr().addr() - rest.as_ptr().addr());
        found.push(at..at + bytes.len());
        from = (at + bytes.len()).next_multiple_of(4);
    }
    Ok(found)
}

/// The record of a format.
fn record<'a>(bytes: &'a mut [u8], name: &str, version: u32) -> Result<&'a mut [u8], String> {
    let header = bytes.get(20..24).and_then(|b| b.try_into().ok());
    let mut at = header.map_or(0, u32::from_le_bytes) as usize;
    let catalogue = Catalogue::parse(bytes).map_err(|fault| fault.text())?;
    let wanted = |f: &Format<'_>| f.name == name && f.version == version;
    let number = catalogue.formats().position(|f| wanted(&f));
    let mut left =
        number.ok_or_else(|| format!("the catalogue has no version {version} of {name}"))?;
    loop {
        let len = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        if u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]) == FORMAT {
            if left == 0 {
                return Ok(&mut bytes[at..at + len]);
            }
            left -= 1;
        }
        at += len;
    }
}

fn set_release(image: &mut [u8], new: &str) -> Result<(), String> {
    let at = release::place(image).ok_or("the image is no bzImage that names a release")?;
    let rest = image.get_mut(at..).unwrap_or_default();
    let room = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    if new.len() > room {
        return Err(format!("the header has room for {room} bytes of a release"));
    }
    rest[..room].fill(0);
    rest[..new.len()].copy_from_slice(new.as_bytes());
    Ok(())
}
