// SPDX-License-Identifier: GPL-2.0
//! Every kind of image is read; what is damaged is said so, and nothing panics.

mod common;

use std::io::Write;
use std::path::Path;

use common::{bzimage, made, module, ours, some, vmlinux};
use formats::edit::{edit, Edit};
use formats::side::Origin;
use formats::{running, Side};
use proptest::prelude::*;

fn read(image: Vec<u8>) -> Side {
    Side::of("image", image, false).unwrap()
}

fn refused(image: Vec<u8>) -> String {
    Side::of("image", image, false).unwrap_err()
}

#[test]
fn each_kind_of_image_is_read() {
    for (image, kind) in [(made(&ours()), "bzImage"), (vmlinux(&ours()), "vmlinux")] {
        let side = read(image);
        assert_eq!((side.kind.as_str(), side.origin), (kind, Origin::Catalogue));
        assert_eq!(side.formats, ours());
        assert_eq!(side.release, "7.3.4");
    }
    let mut image = made(&ours());
    image[0x202..0x206].fill(0);
    image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    assert_eq!(read(image).kind, "arm64 Image");
}

/// The same by each compression.
fn packed(image: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(image).unwrap();
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    xz.write_all(image).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(image).unwrap();
    vec![
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::encode_all(image, 1).unwrap()),
        ("xz", xz.finish().unwrap()),
        ("lz4", lz4.finish().unwrap()),
    ]
}

/// As drivers/firmware/efi/libstub/zboot-header.S lays it out.
fn zboot(payload: &[u8]) -> Vec<u8> {
    let mut image = b"MZ\0\0zimg".to_vec();
    image.extend(64u32.to_le_bytes());
    image.extend((payload.len() as u32).to_le_bytes());
    image.resize(64, 0);
    image.extend(payload);
    image.extend(b"what follows");
    image
}

#[test]
fn compressed_images_are_unpacked() {
    for (method, packed) in packed(&made(&ours())) {
        let side = read(packed.clone());
        assert_eq!(side.kind, format!("bzImage, {method}"));
        assert_eq!(side.formats, ours());
        let side = read(zboot(&packed));
        assert_eq!(side.kind, format!("bzImage, EFI zboot, {method}"));
        // Cut short, as by a download.
        let err = refused(packed[..packed.len() / 2].to_vec());
        assert!(err.contains(method) && err.contains("damaged"), "{err}");
    }
    let cut = zboot(b"\x1f\x8b")[..40].to_vec();
    assert!(refused(cut).contains("cut off"));
    assert!(refused(zboot(b"plain")).contains("not compressed by"));
    assert!(refused(b"BZh91AY".to_vec()).contains("unpack it first"));
}

#[test]
fn packed_again_and_again_is_refused() {
    let mut image = made(&ours());
    for _ in 0..4 {
        image = zstd::encode_all(&image[..], 1).unwrap();
    }
    assert!(refused(image).contains("again and again"));
}

#[test]
fn a_module_shows_its_declarations() {
    let modinfo =
        b"license=GPL\0liveupdate_format=counter:2:rw:0000abcd\0liveupdate_format=old:1:r\0";
    let side = read(module(modinfo));
    assert_eq!(
        (side.kind.as_str(), side.origin),
        ("module", Origin::Module)
    );
    assert_eq!(
        side.formats,
        some(&[("counter", 2, "rw", 0xabcd), ("old", 1, "r", 0)])
    );
    assert!(read(module(b"license=GPL\0")).formats.is_empty());
    for (bad, why) in [
        ("x:1:rw\0liveupdate_format=x:1:r", "declared twice"),
        ("x:0:rw", "no version"),
        ("x:01:rw", "no version"),
        ("x:+1:rw", "no version"),
        ("x:1:x", "no access"),
        ("x:1:rw:12", "eight hex digits"),
        ("x:1:rw:+1234567", "eight hex digits"),
        ("x:1", "NAME:VERSION:ACCESS"),
        ("x:1:rw:00000001:5", "more than four parts"),
        ("a b:1:rw", "no name"),
    ] {
        let err = refused(module(format!("liveupdate_format={bad}\0").as_bytes()));
        assert!(err.contains(why), "{bad}: {err}");
    }
}

#[test]
fn the_release_decides_without_a_catalogue() {
    let side = read(bzimage("7.2.13-1-amd64", None));
    assert_eq!((side.origin, side.formats.len()), (Origin::Release, 9));
    assert_eq!(
        read(b"Linux version 7.3.4 (x)".to_vec()).origin,
        Origin::Release
    );
    let err = refused(bzimage("7.4.0", None));
    assert!(
        err.contains("7.4.0") && err.contains("--unknown mainline"),
        "{err}"
    );
    let assumed = Side::of("image", bzimage("7.4.0", None), true).unwrap();
    assert_eq!(assumed.origin, Origin::Assumed);
    assert!(refused(b"hello".to_vec()).contains("names no release"));
}

#[test]
fn edits_do_what_they_say() {
    for image in [made(&ours()), vmlinux(&ours())] {
        let hidden = Edit::Hide {
            name: "memfd".into(),
            version: 3,
        };
        let side = read(edit(&image, &hidden).unwrap());
        let left: Vec<_> = ours().into_iter().filter(|f| f.version != 3).collect();
        assert_eq!(side.formats, left);
        let read_only = Edit::ReadOnly {
            name: "luo".into(),
            version: 5,
        };
        let side = read(edit(&image, &read_only).unwrap());
        assert_eq!(side.formats[4].access(), "r");
        let err = refused(edit(&image, &Edit::Corrupt).unwrap());
        assert!(
            err.contains("checksum is wrong") && err.contains("get it again"),
            "{err}"
        );
        let none = Edit::Hide {
            name: "memfd".into(),
            version: 9,
        };
        assert!(edit(&image, &none).unwrap_err().contains("no version 9"));
    }
    let image = made(&ours());
    let side = read(edit(&image, &Edit::Remove).unwrap());
    assert_eq!(side.origin, Origin::Release);
    let removed = edit(&image, &Edit::Remove).unwrap();
    let renamed = edit(&removed, &Edit::Release("6.12.1".into())).unwrap();
    assert!(refused(renamed).contains("6.12.1"));
    assert!(edit(&removed, &Edit::Corrupt).is_err());
    assert!(edit(&image, &Edit::Release("x".repeat(500))).is_err());
}

fn put(root: &Path, file: &str, content: &[u8]) {
    let path = root.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn the_running_system_is_read_from_sysfs() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assert!(running::side(root, false)
        .unwrap_err()
        .contains("is sysfs mounted"));
    let bytes = formats::edit::catalogue("7.3.4", 1, &ours()).unwrap();
    put(root, "sys/kernel/notes", &common::notes(&bytes));
    put(root, "proc/sys/kernel/osrelease", b"7.3.4\n");
    let side = running::side(root, false).unwrap();
    assert_eq!((side.origin, &side.formats), (Origin::Running, &ours()));
    put(
        root,
        "sys/kernel/liveupdate/formats/memfd/3/enable_write",
        b"0\n",
    );
    put(
        root,
        "sys/kernel/liveupdate/formats/memfd/2/enable_write",
        b"1\n",
    );
    put(
        root,
        "sys/kernel/liveupdate/formats/counter/1/enable_write",
        b"1\n",
    );
    let side = running::side(root, false).unwrap();
    let access = |name: &str, version| {
        let mut formats = side.formats.iter();
        let found = formats.find(|f| f.name == name && f.version == version);
        found.unwrap().access()
    };
    assert_eq!(
        (access("memfd", 3), access("memfd", 2), access("counter", 1)),
        ("r", "rw", "rw")
    );
    put(root, "sys/kernel/notes", b"");
    assert_eq!(running::side(root, false).unwrap().origin, Origin::Release);
    put(root, "proc/sys/kernel/osrelease", b"6.1.0\n");
    assert!(running::side(root, false).is_err());
    assert!(running::side(root, true).is_ok());
}

proptest! {
    #[test]
    fn a_flipped_bit_is_an_error_or_something_else(which in 0usize..3, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let image = match which {
            0 => made(&ours()),
            1 => vmlinux(&ours()),
            _ => module(b"liveupdate_format=a:1:rw\0"),
        };
        let mut spoilt = image;
        let at = at.index(spoilt.len());
        spoilt[at] ^= 1 << bit;
        if let Ok(side) = Side::of("image", spoilt, false) {
            // Whatever is read as a catalogue was whole.
            prop_assert!(side.origin != Origin::Catalogue || side.formats == ours());
        }
    }

    #[test]
    fn packed_and_spoilt(which in 0usize..4, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let (_, mut image) = packed(&made(&ours())).swap_remove(which);
        let at = at.index(image.len());
        image[at] = byte;
        let _ = Side::of("image", zboot(&image), false);
        image.truncate(cut.index(image.len()));
        let _ = Side::of("image", image, true);
    }

    #[test]
    fn any_bytes(head in prop::sample::select(vec![
        &b""[..], b"\x7fELF\x02\x01\x01", b"MZ\0\0zimg", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18", b"\x1f\x8b\x08",
    ]), tail in proptest::collection::vec(any::<u8>(), 0..600)) {
        let image = [head, &tail].concat();
        let _ = Side::of("image", image, false);
    }
}
