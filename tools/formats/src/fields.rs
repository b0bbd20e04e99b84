// SPDX-License-Identifier: GPL-2.0
//! The fields of formats that are structs, as their declarations in `.modinfo` have them.
//!
//! A module has that section; what is built into a kernel is in the file `modules.builtin.modinfo`,
//! which is made and installed beside it. A catalogue has only the fingerprint of them.

use std::fs;
use std::path::Path;

use object::read::elf::{FileHeader, SectionHeader};
use object::{elf, Endianness};

/// What a declaration begins with, after the name of a module that is built in, and a dot.
const KEY: &str = "liveupdate_fields=";

/// The fields of one version of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struct {
    pub format: String,
    pub version: u32,
    pub fields: Vec<Field>,
}

/// One of them: its place and size are bytes from the start of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: String,
    pub offset: u64,
    pub size: u64,
}

/// Reads all that a module, or `modules.builtin.modinfo`, declares, in the order of names and
/// versions.
///
/// # Errors
///
/// A sentence: the file cannot be read, has no such strings, or has one that is malformed.
pub fn read(path: &Path) -> Result<Vec<Struct>, String> {
    let shown = path.display();
    let data = fs::read(path).map_err(|err| format!("{shown}: {err}"))?;
    let strings = strings(&data).ok_or_else(|| {
        format!("{shown}: it has no .modinfo; give a module (.ko), or the file modules.builtin.modinfo of a kernel")
    })?;
    let mut structs = Vec::new();
    for line in strings.split(|byte| *byte == 0) {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let Some((before, value)) = line.split_once(KEY) else {
            continue;
        };
        if before.is_empty() || before.ends_with('.') {
            let parsed =
                parse(value).ok_or_else(|| format!("{shown}: a malformed line: {line}"))?;
            structs.push(parsed);
        }
    }
    structs.sort_by(|a, b| (&a.format, a.version).cmp(&(&b.format, b.version)));
    Ok(structs)
}

/// The strings of a module, or all of a file that is nothing else.
fn strings(data: &[u8]) -> Option<&[u8]> {
    if !data.starts_with(&elf::ELFMAG) {
        let is_text = data.contains(&0) && data.iter().all(|byte| *byte == 0 || *byte >= b'\t');
        return is_text.then_some(data);
    }
    let endian = Endianness::Little;
    let header = elf::FileHeader64::<Endianness>::parse(data).ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, b".modinfo")?;
    section.data(endian, data).ok()
}

fn parse(value: &str) -> Option<Struct> {
    let (format, rest) = value.split_once(':')?;
    let (version, fields) = rest.split_once(':')?;
    let fields = fields.split(';').filter(|field| !field.is_empty());
    Some(Struct {
        format: format.to_owned(),
        version: version.parse().ok()?,
        fields: fields.map(field).collect::<Option<_>>()?,
    })
}

/// `NAME TYPE OFFSET SIZE`; a type may have blanks.
fn field(text: &str) -> Option<Field> {
    let (name, rest) = text.split_once(' ')?;
    let (rest, size) = rest.rsplit_once(' ')?;
    let (kind, offset) = rest.rsplit_once(' ')?;
    Some(Field {
        name: name.to_owned(),
        kind: kind.to_owned(),
        offset: offset.parse().ok()?,
        size: size.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn declarations_are_found_among_other_strings() {
        let text = b"a.license=GPL\0b.liveupdate_fields=ring:2:at u64 16 8;all u8[4] 24 4\0\
            liveupdate_fields=ring:1:at u64 16 8\0";
        let found = read(file(text).path()).unwrap();
        let versions: Vec<_> = found.iter().map(|s| (s.version, s.fields.len())).collect();
        assert_eq!(versions, [(1, 1), (2, 2)]);
        let last = &found[1].fields[1];
        assert_eq!(
            (last.kind.as_str(), last.offset, last.size),
            ("u8[4]", 24, 4)
        );
    }

    #[test]
    fn what_is_none_is_said() {
        for text in [&b"plain text"[..], b"\x7fELF\x02\x01", b"\0\x01\x02"] {
            assert!(read(file(text).path()).unwrap_err().contains("no .modinfo"));
        }
        for text in [
            "x",
            "x:1",
            "x:one:a u8 0 1",
            "x:1:a u8 0",
            "x:1:a u8 zero 1",
        ] {
            let text = format!("{KEY}{text}\0");
            let said = read(file(text.as_bytes()).path()).unwrap_err();
            assert!(said.contains("malformed"), "{said}");
        }
        assert!(read(Path::new("/nowhere")).is_err());
    }
}
