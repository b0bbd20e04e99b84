// SPDX-License-Identifier: GPL-2.0

//! Structs that are handed over: declared once, with a layout of their own and versions.
//!
//! `handover_struct!` makes a format of a struct. Its fields stand one behind the other, in the
//! order of their declaration, little-endian and without gaps, after a header:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | fingerprint of the layout in this version |
//! | 4 | 4 | version |
//! | 8 | 4 | bytes of the record, the header included |
//! | 12 | 4 | zero |
//! | 16 | ... | fields |
//!
//! What each type of a field looks like is in [`Wire`]. A field that came later says since which
//! version, and what it is in records that are older. Later fields stand behind all earlier ones,
//! so a version is the beginning of the next one.
//!
//! Any bytes are decoded to a value or to a [`Fault`]. The numbers in it are still those of another
//! kernel, which may have bugs.
//!
//! This file and its neighbours use nothing but `core` and zerocopy: drivers in Rust have them, and
//! so has the crate that is LUO itself.
// Not everybody needs all of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod reference;
mod table;
mod wire;

pub use self::{
    reference::{
        Area,
        Cache,
        Item,
        Memory,
        Page,
        Ref,
        Slot,
        Target,
        Values, //
    },
    table::{
        layout,
        place,
        size,
        Entry,
        FieldsLine,
        TypeName, //
    },
    wire::{
        At,
        Wire, //
    },
};

use zerocopy::{
    FromBytes,
    Immutable,
    IntoBytes, //
};

/// Bytes before the first field.
pub const HEADER: usize = 16;

/// Why bytes are no record, or a value cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There are fewer bytes than the record has, or its length is not that of its version.
    Length,
    /// It is a version that this kernel does not know.
    Version,
    /// It is another struct, or another layout.
    Layout,
    /// The bytes of this field are no value of its type.
    Value(&'static str),
    /// The older version cannot say what this field is.
    Unsaid(&'static str),
}

impl Fault {
    /// For the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Length => "its length is not that of its version",
            Self::Version => "its version is unknown",
            Self::Layout => "it is another struct, or has another layout",
            Self::Value(_) => "a field has no value of its type",
            Self::Unsaid(_) => "the older version cannot say what a field is",
        }
    }
}

/// A struct that was declared with `handover_struct!`, which implements this trait.
pub trait Handover: Sized {
    /// Name of the format.
    const NAME: &'static str;
    /// The newest version.
    const VERSION: u32;
    /// All fields.
    const FIELDS: &'static [Entry];
    /// A record of the newest version, in bytes.
    type Bytes: FromBytes + IntoBytes + Immutable + Send + Sync + 'static;

    /// The value whose numbers are all zero, and whose options are [`None`].
    fn blank() -> Self;

    /// Writes the fields. What the macro makes; [`Self::encode`] is what to call.
    #[doc(hidden)]
    fn __put(&self, writer: &mut Writer<'_>) -> Result<(), Fault>;

    /// Reads the fields. What the macro makes; [`Self::decode`] is what to call.
    #[doc(hidden)]
    fn __get(reader: &mut Reader<'_>) -> Result<Self, Fault>;

    /// Bytes of a record of `version`, the header included.
    fn size(version: u32) -> usize {
        size(Self::FIELDS, version)
    }

    /// The record of `version`; what is behind a shorter, older one is zero.
    ///
    /// # Errors
    ///
    /// - [`Fault::Version`] if there is no such version.
    /// - [`Fault::Unsaid`] if a field that this version does not have is not what it would be taken
    ///   for.
    fn encode(&self, version: u32) -> Result<Self::Bytes, Fault> {
        let mut bytes = <Self::Bytes as zerocopy::FromZeros>::new_zeroed();
        self.encode_into(version, bytes.as_mut_bytes())?;
        Ok(bytes)
    }

    /// Writes the record of `version` to the beginning of `to`. Returns its length. What is behind
    /// it stays as it is.
    ///
    /// # Errors
    ///
    /// Those of [`Self::encode`], and [`Fault::Length`] without room. Some bytes may have been
    /// written.
    fn encode_into(&self, version: u32, to: &mut [u8]) -> Result<usize, Fault> {
        check_version::<Self>(version)?;
        let size = Self::size(version);
        let (header, fields) = to
            .get_mut(..size)
            .and_then(|to| to.split_at_mut_checked(HEADER))
            .ok_or(Fault::Length)?;
        let len = u32::try_from(size).map_err(|_| Fault::Length)?;
        let words = [layout(Self::FIELDS, version), version, len, 0];
        for (to, word) in header.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.__put(&mut Writer {
            version,
            rest: fields,
        })?;
        Ok(size)
    }

    /// Reads a record of any version up to this one. What is behind it does not matter.
    ///
    /// # Errors
    ///
    /// A [`Fault`] says what is wrong with the bytes.
    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() < HEADER {
            return Err(Fault::Length);
        }
        let version = word(bytes, 4).ok_or(Fault::Length)?;
        check_version::<Self>(version)?;
        if word(bytes, 0) != Some(layout(Self::FIELDS, version)) || word(bytes, 12) != Some(0) {
            return Err(Fault::Layout);
        }
        let size = Self::size(version);
        let said = word(bytes, 8).and_then(|len| usize::try_from(len).ok());
        if said != Some(size) {
            return Err(Fault::Length);
        }
        Self::__get(&mut Reader {
            version,
            rest: bytes.get(HEADER..size).ok_or(Fault::Length)?,
        })
    }

    /// Reads a record that must be of this version: the one which the handler's name says.
    ///
    /// # Errors
    ///
    /// As for [`Self::decode`]; [`Fault::Version`] for any other version.
    fn decode_version(version: u32, bytes: &[u8]) -> Result<Self, Fault> {
        match word(bytes, 4) {
            Some(said) if said != version => Err(Fault::Version),
            _ => Self::decode(bytes),
        }
    }
}

/// The bytes of a record of the newest version of `T`: what is preserved, and what the `Handle`
/// of a driver stands for.
pub type Encoded<T> = <T as Handover>::Bytes;

fn check_version<T: Handover>(version: u32) -> Result<(), Fault> {
    match (1..=T::VERSION).contains(&version) {
        true => Ok(()),
        false => Err(Fault::Version),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// Writes fields one behind the other.
#[doc(hidden)]
pub struct Writer<'a> {
    version: u32,
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    /// A writer of the fields of `version`, without a header, to bytes of just that size.
    fn bare(version: u32, rest: &'a mut [u8]) -> Self {
        Self { version, rest }
    }

    /// Writes a field, or, if the version does not have it, finds that it need not be written:
    /// `is_default` is of a field that came later.
    pub fn put<T: Wire>(
        &mut self,
        name: &'static str,
        since: u32,
        value: &T,
        is_default: &[fn(&T) -> bool],
    ) -> Result<(), Fault> {
        if since > self.version {
            return match is_default.first().is_some_and(|is| is(value)) {
                true => Ok(()),
                false => Err(Fault::Unsaid(name)),
            };
        }
        let rest = core::mem::take(&mut self.rest);
        let (to, rest) = rest.split_at_mut_checked(T::SIZE).ok_or(Fault::Length)?;
        self.rest = rest;
        value.put(to).ok_or(Fault::Unsaid(name))
    }
}

/// Reads fields one behind the other.
#[doc(hidden)]
pub struct Reader<'a> {
    version: u32,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of the fields of `version`, without a header, in bytes of just that size.
    fn bare(version: u32, rest: &'a [u8]) -> Self {
        Self { version, rest }
    }

    /// Reads a field, or makes the one that the version does not have: `default` is of a field that
    /// came later.
    pub fn get<T: Wire>(
        &mut self,
        name: &'static str,
        since: u32,
        default: &[fn() -> T],
    ) -> Result<T, Fault> {
        if since > self.version {
            return default.first().map(|make| make()).ok_or(Fault::Version);
        }
        let (from, rest) = self.rest.split_at_checked(T::SIZE).ok_or(Fault::Length)?;
        self.rest = rest;
        T::get(from).ok_or(Fault::Value(name))
    }
}

/// Makes a format of a struct. `[path]` is this module, as it is called where the macro is used;
/// see `handover_struct!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __handover_struct {
    (
        [$($at:tt)*]
        $(#[$attr:meta])*
        $vis:vis struct $name:ident($format:literal) version $version:literal layouts [$($pinned:literal),+ $(,)?] {
            $(
                $(#[doc = $doc:literal])*
                $(#[since($since:literal, default = $default:expr)])?
                $field_vis:vis $field:ident: $type:ty
            ),+ $(,)?
        }
    ) => {
        $(#[$attr])*
        $vis struct $name {
            $(
                $(#[doc = $doc])*
                $field_vis $field: $type
            ),+
        }

        const _: () = {
            use $($at)* as at;

            /// The version in which a field came.
            const fn since(said: &[u32]) -> u32 {
                if said.is_empty() {
                    1
                } else {
                    assert!(said[0] > 1, "a field that was always there has no `since`");
                    said[0]
                }
            }

            impl at::Handover for $name {
                const NAME: &'static str = $format;
                const VERSION: u32 = $version;
                const FIELDS: &'static [at::Entry] = &at::place(
                    $version,
                    [$(
                        at::Entry::new::<$type>(stringify!($field), since(&[$($since)?]))
                    ),+],
                );
                type Bytes = [u8; at::size(<$name as at::Handover>::FIELDS, $version)];

                fn blank() -> Self {
                    Self {
                        $($field: <$type as at::Wire>::blank()),+
                    }
                }

                fn __put(&self, writer: &mut at::Writer<'_>) -> Result<(), at::Fault> {
                    $(
                        writer.put::<$type>(
                            stringify!($field),
                            const { since(&[$($since)?]) },
                            &self.$field,
                            &[$(|value| *value == $default)?],
                        )?;
                    )+
                    Ok(())
                }

                fn __get(reader: &mut at::Reader<'_>) -> Result<Self, at::Fault> {
                    Ok(Self {
                        $(
                            $field: reader.get::<$type>(
                                stringify!($field),
                                const { since(&[$($since)?]) },
                                &[$(|| $default)?],
                            )?
                        ),+
                    })
                }
            }

            const PINNED: &[u32] = &[$($pinned),+];
            const _: () = assert!(
                PINNED.len() == $version,
                "`layouts` has one fingerprint for each version"
            );
            $crate::__handover_pinned!(at $name $version, $($pinned),+);
        };
    };
}

/// Fails the build when the layout of a version is not the one that is pinned: the sizes that the
/// compiler compares are the fingerprints, the pinned one first.
#[doc(hidden)]
#[macro_export]
macro_rules! __handover_pinned {
    ($at:ident $name:ident $version:literal, $($pinned:literal),+) => {
        $crate::__handover_pinned!(@ $at $name [1] $($pinned,)+);
    };
    (@ $at:ident $name:ident [$($version:tt)+]) => {};
    (@ $at:ident $name:ident [$($version:tt)+] $first:literal, $($rest:literal,)*) => {
        const _: [(); $first] =
            [(); $at::layout(<$name as $at::Handover>::FIELDS, $($version)+) as usize];
        $crate::__handover_pinned!(@ $at $name [$($version)+ + 1] $($rest,)*);
    };
}
