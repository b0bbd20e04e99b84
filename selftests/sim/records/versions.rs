// SPDX-License-Identifier: GPL-2.0

//! Round trips, older and newer versions, and bytes that nobody wrote.

use proptest::prelude::*;

use crate::sys::handover_struct;
use crate::sys::record::{At, Fault, Handover, HEADER};

handover_struct! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(super) struct Inner("tests-inner") version 2 layouts [0x2c564fc2, 0x54cc479e] {
        pub(super) number: u32,
        #[since(2, default = -1)]
        pub(super) level: i16,
    }
}

/// A struct as the old kernel knows it.
mod before {
    use super::*;

    handover_struct! {
        #[derive(Clone, Debug, PartialEq)]
        pub(super) struct Record("tests-record") version 1 layouts [0xa88cc442] {
            /// A doc comment.
            pub(super) next: u64,
            pub(super) small: i8,
            pub(super) on: bool,
            pub(super) name: [u8; 5],
            pub(super) limit: Option<u16>,
            pub(super) inner: At<Inner, 1>,
            pub(super) pairs: [[Option<u8>; 2]; 2],
        }
    }
}

handover_struct! {
    /// The same a version later.
    #[derive(Clone, Debug, PartialEq)]
    struct Record("tests-record") version 3 layouts [0xa88cc442, 0x2efd8291, 0xdeb7b52b] {
        next: u64,
        small: i8,
        on: bool,
        name: [u8; 5],
        limit: Option<u16>,
        inner: At<Inner, 1>,
        pairs: [[Option<u8>; 2]; 2],
        /// It came later.
        #[since(2, default = 7)]
        step: u64,
        #[since(3, default = None)]
        more: Option<At<Inner, 2>>,
    }
}

type Pairs = [[Option<u8>; 2]; 2];

prop_compose! {
    fn an_inner()(number: u32, level: i16) -> Inner {
        Inner { number, level }
    }
}

prop_compose! {
    fn a_record()(
        (next, small, on) in any::<(u64, i8, bool)>(),
        (name, limit) in any::<([u8; 5], Option<u16>)>(),
        number: u32,
        pairs in any::<Pairs>(),
        step: u64,
        more in proptest::option::of(an_inner()),
    ) -> Record {
        Record {
            next, small, on, name, limit,
            inner: At(Inner { number, level: -1 }),
            pairs,
            step,
            more: more.map(At),
        }
    }
}

/// The record as the old kernel has it.
fn as_before(record: &Record) -> before::Record {
    before::Record {
        next: record.next,
        small: record.small,
        on: record.on,
        name: record.name,
        limit: record.limit,
        inner: record.inner,
        pairs: record.pairs,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in a_record()) {
        let bytes = record.encode(3).expect("the newest version says all");
        prop_assert_eq!(Record::decode(&bytes), Ok(record.clone()));
        prop_assert_eq!(Record::decode_version(3, &bytes), Ok(record));
        prop_assert_eq!(Record::decode_version(2, &bytes), Err(Fault::Version));
    }

    #[test]
    fn an_old_kernels_record_is_read(record in a_record()) {
        let old = as_before(&record);
        let bytes = old.encode(1).expect("all is said");
        let expected = Record { step: 7, more: None, ..record };
        prop_assert_eq!(Record::decode(&bytes), Ok(expected));
    }

    #[test]
    fn an_old_kernel_reads_what_it_can(record in a_record()) {
        for version in [1, 2] {
            let lost = match version {
                1 if record.step != 7 => Some(Fault::Unsaid("step")),
                _ if record.more.is_some() => Some(Fault::Unsaid("more")),
                _ => None,
            };
            prop_assert_eq!(record.encode(version).err(), lost);
        }
        let sayable = Record { step: 7, more: None, ..record };
        let bytes = sayable.encode(1).expect("the rest is what version 1 takes it for");
        prop_assert_eq!(before::Record::decode(&bytes), Ok(as_before(&sayable)));
        prop_assert_eq!(Record::decode(&bytes), Ok(sayable.clone()));
        let bytes = sayable.encode(2).expect("so is it in version 2");
        prop_assert_eq!(before::Record::decode(&bytes), Err(Fault::Version));
        prop_assert_eq!(Record::decode(&bytes), Ok(sayable));
    }

    #[test]
    fn any_bytes_are_a_value_or_a_fault(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        version in 0u32..5,
        plausible: bool,
    ) {
        if plausible {
            // Past the header, at what is in the fields.
            let fields = <Record as Handover>::FIELDS;
            let header = [
                crate::sys::record::layout(fields, version),
                version,
                Record::size(version) as u32,
                0,
            ];
            for (to, word) in bytes.chunks_exact_mut(4).zip(header) {
                to.copy_from_slice(&word.to_le_bytes());
            }
        }
        if let Ok(record) = Record::decode(&bytes) {
            // What is a value is the only way to write it.
            let said = u32::from_le_bytes(bytes[4..8].try_into().expect("four"));
            let mut again = vec![0; 120];
            let len = record.encode_into(said, &mut again).expect("it came from there");
            prop_assert_eq!(&again[..len], &bytes[..len]);
        }
    }

    #[test]
    fn a_flipped_bit_is_a_fault_or_another_value(record in a_record(), bit: prop::sample::Index) {
        let mut bytes = record.encode(3).expect("all is said");
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = Record::decode(&bytes);
        prop_assert_ne!(&read, &Ok(record));
        if bit / 8 < HEADER {
            prop_assert!(read.is_err());
        }
    }

    #[test]
    fn what_is_cut_off_is_a_fault(record in a_record(), len: prop::sample::Index) {
        let bytes = record.encode(3).expect("all is said");
        let len = len.index(bytes.len());
        prop_assert_eq!(Record::decode(&bytes[..len]), Err(Fault::Length));
        let mut short = vec![0; len];
        prop_assert_eq!(record.encode_into(3, &mut short), Err(Fault::Length));
    }

    #[test]
    fn what_stands_behind_does_not_matter(
        record in a_record(),
        behind in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = record.encode(3).expect("all is said").to_vec();
        bytes.extend(behind);
        prop_assert_eq!(Record::decode(&bytes), Ok(record));
    }
}

/// The bytes, one by one: no machine and no compiler changes them.
#[test]
fn the_bytes_are_pinned() {
    let record = Record {
        next: 0x1122_3344_5566_7788,
        small: -2,
        on: true,
        name: *b"count",
        limit: Some(0x99aa),
        inner: At(Inner {
            number: 5,
            level: -1,
        }),
        pairs: [[Some(1), None], [None, Some(2)]],
        step: 7,
        more: Some(At(Inner {
            number: 6,
            level: -3,
        })),
    };
    let bytes = record.encode(3).expect("all is said");
    #[rustfmt::skip]
    let expected = [
        0x2b, 0xb5, 0xb7, 0xde, 3, 0, 0, 0, 61, 0, 0, 0, 0, 0, 0, 0,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
        0xfe, 1, b'c', b'o', b'u', b'n', b't',
        1, 0xaa, 0x99,
        5, 0, 0, 0,
        1, 1, 0, 0, 0, 0, 1, 2,
        7, 0, 0, 0, 0, 0, 0, 0,
        1, 6, 0, 0, 0, 0xfd, 0xff,
    ];
    assert_eq!(bytes[..], expected);
}

/// What an inner struct got after the version that is embedded is not left out silently.
#[test]
fn a_nested_struct_is_written_in_its_version() {
    let mut record = Record::blank();
    record.inner.level = -1;
    assert!(record.encode(3).is_ok());
    record.inner.level = 0;
    assert_eq!(record.encode(3), Err(Fault::Unsaid("inner")));
}

#[test]
fn versions_that_there_are_not() {
    let record = Record::blank();
    for version in [0, 4, u32::MAX] {
        assert_eq!(record.encode(version), Err(Fault::Version));
    }
}

#[test]
fn a_struct_is_not_taken_for_another() {
    handover_struct! {
        #[derive(Debug, PartialEq)]
        struct Other("tests-other") version 1 layouts [0xafdf23e6] {
            number: u32,
            other: u32,
        }
    }
    let other = Other {
        number: 1,
        other: 2,
    };
    let bytes = other.encode(1).expect("all is said");
    assert_eq!(Inner::decode(&bytes), Err(Fault::Layout));
}

/// The table that stands in `.modinfo`.
#[test]
fn the_table_of_fields_names_them_all() {
    use crate::sys::record::FieldsLine;
    const LINE: FieldsLine = FieldsLine::new(
        Some(b"some-module"),
        <Record as Handover>::NAME,
        2,
        <Record as Handover>::FIELDS,
    );
    let text = String::from_utf8(LINE.to::<{ LINE.len() }>().to_vec()).expect("it is text");
    assert_eq!(
        text,
        "some_module.liveupdate_fields=tests-record:2:next u64 16 8;small i8 24 1;on bool 25 1;\
         name u8[5] 26 5;limit u16? 31 3;inner tests-inner@1 34 4;pairs u8?[2][2] 38 8;step u64 46 8\0"
    );
}
