// SPDX-License-Identifier: GPL-2.0

//! The catalogue's bytes: read back what was written, and nothing of what was spoilt.

use proptest::prelude::*;

use super::catalogue::*;

/// A catalogue of these formats, each with `extra` bytes that this version does not know.
pub(crate) fn encode(
    formats: &[(String, u32, u32, u32)],
    extra: usize,
    other: Option<u16>,
) -> Vec<u8> {
    let mut bytes = magic().to_vec();
    let header = HEADER + extra.next_multiple_of(4);
    for word in [VERSION, header as u32, 0, 0, KHO_ON, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"7.3.4-test\0");
    bytes.resize(header, 0);
    let mut count = 0u32;
    for (name, version, access, layout) in formats {
        let mut record = ((RECORD + extra) as u16).to_le_bytes().to_vec();
        record.extend(FORMAT.to_le_bytes());
        for word in [access, version, layout] {
            record.extend(word.to_le_bytes());
        }
        record.extend(name.as_bytes());
        record.resize(RECORD + extra, 0);
        bytes.extend(record);
        count += 1;
        if let Some(kind) = other {
            bytes.extend([7, 0]);
            bytes.extend(kind.to_le_bytes());
            bytes.extend([1, 2, 3]);
            count += 1;
        }
    }
    let size = bytes.len() as u32;
    bytes[24..28].copy_from_slice(&size.to_le_bytes());
    bytes[36..40].copy_from_slice(&count.to_le_bytes());
    let sum = checksum(&bytes);
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn some() -> Vec<(String, u32, u32, u32)> {
    let one = |name: &str, version, access| (name.into(), version, access, 0xabcd);
    vec![
        one("kho", 4, READ | WRITE),
        one("memfd", 2, READ | WRITE),
        one("memfd", 3, READ),
    ]
}

fn read(bytes: &[u8]) -> Vec<(String, u32, u32, u32)> {
    let catalogue = Catalogue::parse(bytes).unwrap();
    let owned = |f: Format<'_>| (f.name.into(), f.version, f.access, f.layout);
    catalogue.formats().map(owned).collect()
}

#[test]
fn the_check_value_of_the_crc_is_that_of_the_standard() {
    // Bytes 28 to 32 count as zero; before them the standard's text.
    assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
}

#[test]
fn what_later_versions_add_is_passed_over() {
    let bytes = encode(&some(), 12, Some(9));
    assert_eq!(read(&bytes), some());
    let catalogue = Catalogue::parse(&bytes).unwrap();
    assert_eq!(
        (catalogue.release(), catalogue.flags()),
        ("7.3.4-test", KHO_ON)
    );
}

#[test]
fn no_format_stands_in_it_twice() {
    let mut twice = some();
    twice.push(("memfd".into(), 2, READ, 0));
    assert_eq!(
        Catalogue::parse(&encode(&twice, 0, None)).unwrap_err(),
        Fault::Twice
    );
}

#[test]
fn a_name_is_one_and_a_version_is_not_zero() {
    for (name, version) in [("", 1), ("a/b", 1), ("..", 1), ("ok", 0)] {
        let bad = vec![(name.to_string(), version, READ, 0)];
        assert_eq!(
            Catalogue::parse(&encode(&bad, 0, None)).unwrap_err(),
            Fault::Format
        );
    }
}

#[test]
fn compatible_strings_are_parted() {
    assert_eq!(part("memfd-v2"), ("memfd", 2));
    assert_eq!(part("vfio-pci-v12"), ("vfio-pci", 12));
    for whole in ["memfd", "x-v", "x-v02", "x-v+2", "-v2", "x-v99999999999"] {
        assert_eq!(part(whole), (whole, 1));
    }
}

#[test]
fn it_is_found_in_an_image_wherever_that_has_it() {
    let mut image = vec![0x89u8; 4096];
    assert!(Catalogue::find(&image).unwrap().is_none());
    let bytes = encode(&some(), 0, None);
    // One that is spoilt, and after it the right one.
    let mut spoilt = bytes.clone();
    spoilt[50] ^= 1;
    image.extend(&spoilt);
    assert_eq!(Catalogue::find(&image).unwrap_err(), Fault::Checksum);
    image.extend([1; 8]);
    image.extend(&bytes);
    image.extend([2; 3]);
    assert_eq!(Catalogue::find(&image).unwrap().unwrap().bytes(), bytes);
}

#[test]
fn many_that_are_none_are_not_looked_at() {
    let mut one = encode(&some(), 0, None)[..48].to_vec();
    one[24..28].copy_from_slice(&(MAX_BYTES as u32).to_le_bytes());
    // Each asks for the checksum of 64 KiB: without a limit this takes a minute.
    let mut image = one.repeat((4 << 20) / one.len());
    assert_eq!(Catalogue::find(&image).unwrap_err(), Fault::Checksum);
    image.extend(encode(&some(), 0, None));
    assert!(Catalogue::find(&image).is_err());
}

proptest! {
    #[test]
    fn a_flipped_bit_is_seen(bit in 0usize..(HEADER + 3 * RECORD) * 8) {
        let mut bytes = encode(&some(), 0, None);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // The magic is looked at by who searches.
        prop_assert!(bit < 128 || Catalogue::parse(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_a_catalogue_or_an_error(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400), size in 0u32..400, sum in any::<bool>()
    ) {
        if bytes.len() >= HEADER {
            bytes[20..24].copy_from_slice(&(HEADER as u32).to_le_bytes());
            bytes[24..28].copy_from_slice(&size.to_le_bytes());
            let end = (size as usize).min(bytes.len());
            if sum && end >= HEADER {
                let sum = checksum(&bytes[..end]);
                bytes[28..32].copy_from_slice(&sum.to_le_bytes());
            }
        }
        if let Ok(catalogue) = Catalogue::parse(&bytes) {
            prop_assert!(catalogue.formats().all(|f| is_name(f.name)));
        }
        let _ = Catalogue::find(&bytes);
    }
}
