// SPDX-License-Identifier: GPL-2.0
//! Images that are made up: the least that makes a file look like one.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

use formats::edit::{catalogue, edit, Edit};
use formats::Format;

/// `NAME VERSION ACCESS LAYOUT` for each; a layout of 0 is unknown.
pub fn some(list: &[(&str, u32, &str, u32)]) -> Vec<Format> {
    let one = |&(name, version, access, layout): &(&str, u32, &str, u32)| Format {
        name: name.into(),
        version,
        reads: access.contains('r'),
        writes: access.contains('w'),
        layout: Some(layout).filter(|layout| *layout != 0),
    };
    list.iter().map(one).collect()
}

/// A kernel of ours: mainline's formats, and memfd 3.
pub fn ours() -> Vec<Format> {
    some(&[
        ("kho", 4, "rw", 1),
        ("kho-vmalloc", 1, "rw", 2),
        ("kho-block", 1, "rw", 3),
        ("radix", 1, "rw", 4),
        ("luo", 5, "rw", 5),
        ("luo-flb", 1, "rw", 6),
        ("memfd", 2, "rw", 7),
        ("memfd", 3, "rw", 8),
        ("kexec-metadata", 1, "rw", 9),
        ("memblock", 1, "rw", 0),
    ])
}

/// A bzImage of this release, with these bytes in it, if any.
pub fn bzimage(release: &str, catalogue: Option<&[u8]>) -> Vec<u8> {
    let mut image = vec![0x90; 8192];
    image[0x1f1] = 4;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x400u16.to_le_bytes());
    let text = format!("{release} (who@where) #1 SMP\0");
    image[0x600..0x600 + text.len()].copy_from_slice(text.as_bytes());
    image.extend(catalogue.unwrap_or_default());
    image.resize(image.len().next_multiple_of(512), 0);
    image
}

/// A bzImage with a catalogue.
pub fn made(formats: &[Format]) -> Vec<u8> {
    bzimage("7.3.4", Some(&catalogue("7.3.4", 0, formats).unwrap()))
}

/// An ELF file of one section, and the names of sections.
pub fn elf(kind: u16, name: &str, section_type: u32, content: &[u8]) -> Vec<u8> {
    let names = format!("\0{name}\0.shstrtab\0");
    let names_at = 64 + content.len().next_multiple_of(8);
    let table_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(kind.to_le_bytes());
    file.extend(62u16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend([0; 16]);
    file.extend((table_at as u64).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 0, 0, 64, 3, 2] {
        file.extend(half.to_le_bytes());
    }
    file.extend(content);
    file.resize(names_at, 0);
    file.extend(names.as_bytes());
    file.resize(table_at + 64, 0);
    let name_of_names = 2 + name.len() as u32;
    for (name, kind, at, size) in [
        (1u32, section_type, 64u64, content.len()),
        (name_of_names, 3, names_at as u64, names.len()),
    ] {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend([0; 16]);
        file.extend(at.to_le_bytes());
        file.extend((size as u64).to_le_bytes());
        file.extend([0; 8]);
        file.extend(4u64.to_le_bytes());
        file.extend([0; 8]);
    }
    file
}

/// The note that a catalogue is in vmlinux, after another note.
pub fn notes(catalogue: &[u8]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (owner, kind, content) in [
        (b"GNU\0".as_slice(), 3u32, b"\x01\x02\x03\x04".as_slice()),
        (b"LiveUpdate\0", 1, catalogue),
    ] {
        notes.extend((owner.len() as u32).to_le_bytes());
        notes.extend((content.len() as u32).to_le_bytes());
        notes.extend(kind.to_le_bytes());
        notes.extend(owner);
        notes.resize(notes.len().next_multiple_of(4), 0);
        notes.extend(content);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
    notes
}

pub fn vmlinux(formats: &[Format]) -> Vec<u8> {
    let catalogue = catalogue("7.3.4", 3, formats).unwrap();
    elf(2, ".notes", 7, &notes(&catalogue))
}

pub fn module(modinfo: &[u8]) -> Vec<u8> {
    elf(1, ".modinfo", 1, modinfo)
}

/// Runs the program in a folder.
pub fn formats(folder: &Path, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_formats"));
    program.current_dir(folder).args(args).output().unwrap()
}

/// What it printed, and its exit code.
pub fn said(output: &Output) -> (String, i32) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (
        String::from_utf8(text).unwrap(),
        output.status.code().unwrap(),
    )
}

/// A folder of images: `ours`, `older` without memfd 3, `mainline`, `mem.ko` and more.
pub fn images() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, image: Vec<u8>| std::fs::write(dir.path().join(name), image).unwrap();
    let hide = |name: &str, version| Edit::Hide {
        name: name.into(),
        version,
    };
    put("ours", made(&ours()));
    put("vmlinux", vmlinux(&ours()));
    put("older", edit(&made(&ours()), &hide("memfd", 3)).unwrap());
    put(
        "without-luo",
        edit(&made(&ours()), &hide("luo", 5)).unwrap(),
    );
    put("spoilt", edit(&made(&ours()), &Edit::Corrupt).unwrap());
    put("mainline", bzimage("7.3.4", None));
    put("unknown", bzimage("6.12.0", None));
    let mut other = ours();
    other[6].layout = Some(0x1234);
    put("other-layout", made(&other));
    let mut other = ours();
    other[4].layout = Some(0x1234);
    put("other-luo", made(&other));
    put("counter.ko", module(b"liveupdate_format=counter:1:rw\0"));
    dir
}
