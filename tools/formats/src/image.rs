// SPDX-License-Identifier: GPL-2.0
//! What the file of an image is, and what in it says which formats its kernel has.

use object::read::elf::{FileHeader, SectionHeader};
use object::{elf, Endianness};

use crate::shared::catalogue::{Catalogue, Fault};
use crate::shared::declarations;
use crate::shared::encode::Entry;
use crate::shared::release;
use crate::unpack::unpack;

/// Owner and type of the note that the catalogue is.
const OWNER: &[u8] = b"LiveUpdate";
const NOTE: u32 = 1;

/// How often an image may be packed into another.
const DEPTH: usize = 3;

/// An image, looked into.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// What kind of file it is, for a person.
    pub(crate) kind: String,
    pub(crate) found: Found,
}

/// What says which formats there are.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// The bytes of a catalogue that is whole.
    Catalogue(Vec<u8>),
    /// A module's own declarations.
    Module(Vec<Entry>),
    /// No catalogue, but a release.
    Release(String),
    Nothing,
}

/// Looks into a file.
///
/// # Errors
///
/// A sentence: it is damaged.
pub(crate) fn look(mut data: Vec<u8>) -> Result<Image, String> {
    let mut packed = Vec::new();
    while let Some((inner, method)) = unpack(&data)? {
        packed.push(method);
        if packed.len() > DEPTH {
            return Err("it is packed again and again; is it an image at all?".into());
        }
        data = inner;
    }
    let kind = kind(&data);
    let found = match kind {
        "module" => Found::Module(module(&data)?),
        _ => whole(&data)?,
    };
    let outside: String = packed
        .iter()
        .rev()
        .map(|method| format!(", {method}"))
        .collect();
    Ok(Image {
        kind: format!("{kind}{outside}"),
        found,
    })
}

fn kind(data: &[u8]) -> &'static str {
    if release::is_bzimage(data) {
        return "bzImage";
    }
    if data.get(0x38..0x3c) == Some(b"ARM\x64") {
        return "arm64 Image";
    }
    match elf(data) {
        Some(header) if header.e_type(Endianness::Little) == elf::ET_REL => "module",
        Some(_) => "vmlinux",
        None => "image",
    }
}

/// A kernel that has one file.
fn whole(data: &[u8]) -> Result<Found, String> {
    let damaged = |fault: Fault| {
        format!(
            "its catalogue of formats is damaged: {}; the file is not what was built, get it again",
            fault.text()
        )
    };
    if let Some(note) = note(data) {
        let catalogue = Catalogue::find(note).map_err(damaged)?;
        if let Some(catalogue) = catalogue {
            return Ok(Found::Catalogue(catalogue.bytes().to_vec()));
        }
        return Err(
            "it has the note of a catalogue of formats, and no catalogue in it; the file is damaged, \
             get it again"
                .into(),
        );
    }
    if let Some(catalogue) = Catalogue::find(data).map_err(damaged)? {
        return Ok(Found::Catalogue(catalogue.bytes().to_vec()));
    }
    Ok(match release::of(data) {
        Some(release) => Found::Release(release.into()),
        None => Found::Nothing,
    })
}

type Header = elf::FileHeader64<Endianness>;

fn elf(data: &[u8]) -> Option<&Header> {
    let header = Header::parse(data).ok()?;
    (header.endian().ok()? == Endianness::Little).then_some(header)
}

/// What the catalogue's note holds.
fn note(data: &[u8]) -> Option<&[u8]> {
    let header = elf(data)?;
    let endian = Endianness::Little;
    let sections = header.sections(endian, data).ok()?;
    for section in sections.iter() {
        let Ok(Some(mut notes)) = section.notes(endian, data) else {
            continue;
        };
        // A note that is none ends the section.
        while let Ok(Some(note)) = notes.next() {
            if note.name() == OWNER && note.n_type(endian) == NOTE {
                return Some(note.desc());
            }
        }
    }
    None
}

fn module(data: &[u8]) -> Result<Vec<Entry>, String> {
    let damaged = "it is an object file without a readable .modinfo; give a module, or a kernel";
    let endian = Endianness::Little;
    let header = elf(data).ok_or(damaged)?;
    let sections = header.sections(endian, data).map_err(|_| damaged)?;
    let (_, section) = sections
        .section_by_name(endian, b".modinfo")
        .ok_or(damaged)?;
    let modinfo = section.data(endian, data).map_err(|_| damaged)?;
    declarations::formats(modinfo).map_err(|faults| faults.join("; "))
}
