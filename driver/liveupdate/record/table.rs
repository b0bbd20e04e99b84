// SPDX-License-Identifier: GPL-2.0

//! The table of a struct's fields: their names, types and places, known when it is compiled.

use super::super::layout::mix;
use super::{
    Wire,
    HEADER, //
};

/// Room for the name of a type.
const ROOM: usize = 64;

/// What the type of a field is called, in all languages: `u64`, `u8[16]`, `u32?`.
#[derive(Clone, Copy)]
pub struct TypeName {
    bytes: [u8; ROOM],
    len: usize,
}

impl TypeName {
    /// A name as it is.
    pub const fn new(name: &str) -> Self {
        Self {
            bytes: [0; ROOM],
            len: 0,
        }
        .text(name)
    }

    /// This name and then `text`.
    pub const fn text(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() {
            self = self.push(text[at]);
            at += 1;
        }
        self
    }

    /// This name and then a number.
    pub const fn number(mut self, number: usize) -> Self {
        let mut unit = 1;
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            self = self.push(b'0' + ((number / unit) % 10) as u8);
            unit /= 10;
        }
        self
    }

    const fn push(mut self, byte: u8) -> Self {
        assert!(self.len < ROOM, "the name of a type is too long");
        self.bytes[self.len] = byte;
        self.len += 1;
        self
    }

    const fn as_bytes(&self) -> &[u8] {
        let (name, _) = self.bytes.split_at(self.len);
        name
    }

    /// The name.
    pub const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.as_bytes()) {
            Ok(name) => name,
            Err(_) => "",
        }
    }
}

/// A field of a struct.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What it is called.
    pub name: &'static str,
    /// The version in which it came.
    pub since: u32,
    /// Where it stands in a record, the header included.
    pub offset: usize,
    /// Its bytes.
    pub size: usize,
    /// What its type is called.
    pub type_name: TypeName,
    /// Fingerprint of what the name of the type does not say: the fields of a nested struct.
    pub inner: u32,
}

impl Entry {
    /// A field of type `T`, which has no place yet.
    pub const fn new<T: Wire>(name: &'static str, since: u32) -> Self {
        Self {
            name,
            since,
            offset: 0,
            size: T::SIZE,
            type_name: T::NAME,
            inner: T::INNER,
        }
    }
}

/// Gives each field of a struct of `version` its place.
pub const fn place<const N: usize>(version: u32, mut fields: [Entry; N]) -> [Entry; N] {
    assert!(version > 0, "versions begin with 1");
    assert!(
        fields[0].since == 1,
        "the first field was there from version 1 on"
    );
    let mut offset = HEADER;
    let mut since = 1;
    let mut at = 0;
    while at < N {
        assert!(
            fields[at].since >= since,
            "a field that came later stands behind all that were there"
        );
        since = fields[at].since;
        fields[at].offset = offset;
        offset += fields[at].size;
        at += 1;
    }
    assert!(
        since == version,
        "the last version is the one in which the last fields came"
    );
    assert!(offset <= 4096, "a record has 4096 bytes at most");
    fields
}

/// Bytes of a record of `version`.
pub const fn size(fields: &[Entry], version: u32) -> usize {
    let mut size = HEADER;
    let mut at = 0;
    while at < fields.len() {
        if fields[at].since <= version {
            size += fields[at].size;
        }
        at += 1;
    }
    size
}

/// Fingerprint of the layout of `version`: FNV-1a of each of its fields' name, type, place, size,
/// and, if it is a nested struct, fingerprint. Never 0.
pub const fn layout(fields: &[Entry], version: u32) -> u32 {
    let mut sum = 0x811c_9dc5;
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        if field.since <= version {
            sum = mix(sum, field.name.as_bytes());
            sum = mix(sum, &[0]);
            sum = mix(sum, field.type_name.as_bytes());
            sum = mix(sum, &[0]);
            sum = mix(sum, &(field.offset as u32).to_le_bytes());
            sum = mix(sum, &(field.size as u32).to_le_bytes());
            sum = mix(sum, &field.inner.to_le_bytes());
        }
        at += 1;
    }
    if sum == 0 {
        1
    } else {
        sum
    }
}

/// Room for the table of a struct in `.modinfo`.
const LINE: usize = 2048;

/// The table as it stands in `.modinfo`:
/// `liveupdate_fields=NAME:VERSION:FIELD TYPE OFFSET SIZE;...`, with its NUL. Nothing if no fields
/// are known.
pub struct FieldsLine {
    bytes: [u8; LINE],
    len: usize,
}

impl FieldsLine {
    /// That of `version`, declared by code of the built-in module `owner`, or of a module, which is
    /// named by its file: `None`.
    pub const fn new(owner: Option<&[u8]>, name: &str, version: u32, fields: &[Entry]) -> Self {
        let mut line = Self {
            bytes: [0; LINE],
            len: 0,
        };
        if fields.is_empty() {
            return line;
        }
        if let Some(owner) = owner {
            let mut at = 0;
            while at < owner.len() && owner[at] != 0 {
                // As Kbuild names modules.
                line.push(if owner[at] == b'-' { b'_' } else { owner[at] });
                at += 1;
            }
            line.push(b'.');
        }
        line.bytes(b"liveupdate_fields=");
        line.bytes(name.as_bytes());
        line.push(b':');
        line.number(version as usize);
        let mut at = 0;
        while at < fields.len() && fields[at].since <= version {
            let field = &fields[at];
            line.push(if at == 0 { b':' } else { b';' });
            line.bytes(field.name.as_bytes());
            line.push(b' ');
            line.bytes(field.type_name.as_bytes());
            line.push(b' ');
            line.number(field.offset);
            line.push(b' ');
            line.number(field.size);
            at += 1;
        }
        line.push(0);
        line
    }

    /// Bytes, the NUL included.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The bytes, of which there are `N`.
    pub const fn to<const N: usize>(&self) -> [u8; N] {
        assert!(N == self.len);
        let mut bytes = [0; N];
        let mut at = 0;
        while at < N {
            bytes[at] = self.bytes[at];
            at += 1;
        }
        bytes
    }

    const fn push(&mut self, byte: u8) {
        assert!(self.len < LINE, "the table of a struct is too long");
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    const fn bytes(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            self.push(bytes[at]);
            at += 1;
        }
    }

    const fn number(&mut self, number: usize) {
        self.bytes(TypeName::new("").number(number).as_bytes());
    }
}
