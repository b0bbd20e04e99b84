// SPDX-License-Identifier: GPL-2.0
//! Takes compressed images apart: what is in them is an image again.

use std::io::Read;

/// Most bytes of an image that is not compressed.
pub(crate) const MOST: u64 = 2 << 30;

/// A kind of compression, known by the first bytes.
struct Method {
    magic: &'static [u8],
    name: &'static str,
    open: Option<Open>,
}

type Open = fn(&[u8]) -> std::io::Result<Box<dyn Read + '_>>;

const METHODS: [Method; 7] = [
    Method {
        magic: &[0x1f, 0x8b],
        name: "gzip",
        open: Some(|data| Ok(Box::new(flate2::read::GzDecoder::new(data)))),
    },
    Method {
        magic: &[0x28, 0xb5, 0x2f, 0xfd],
        name: "zstd",
        // What follows the frame, such as the size that Kbuild appends, is not looked at.
        open: Some(|data| Ok(Box::new(zstd::Decoder::with_buffer(data)?.single_frame()))),
    },
    Method {
        magic: &[0xfd, b'7', b'z', b'X', b'Z', 0],
        name: "xz",
        open: Some(|data| Ok(Box::new(lzma_rust2::XzReader::new(data, false)))),
    },
    Method {
        magic: &[0x04, 0x22, 0x4d, 0x18],
        name: "lz4",
        open: Some(|data| Ok(Box::new(lz4_flex::frame::FrameDecoder::new(data)))),
    },
    Method {
        magic: &[0x02, 0x21, 0x4c, 0x18],
        name: "lz4",
        open: Some(|data| Ok(Box::new(lz4_flex::frame::FrameDecoder::new(data)))),
    },
    Method {
        magic: b"BZh",
        name: "bzip2",
        open: None,
    },
    Method {
        magic: &[0x89, b'L', b'Z', b'O'],
        name: "lzo",
        open: None,
    },
];

/// What is in a compressed file, and by what it is compressed; `None` if it is not.
pub(crate) fn unpack(data: &[u8]) -> Result<Option<(Vec<u8>, &'static str)>, String> {
    if let Some(payload) = zboot(data)? {
        let (inner, method) = unpack_plain(payload)?
            .ok_or("it is an EFI zboot image, but what is in it is not compressed by gzip, zstd, xz or lz4")?;
        let name = match method {
            "gzip" => "EFI zboot, gzip",
            "zstd" => "EFI zboot, zstd",
            "xz" => "EFI zboot, xz",
            _ => "EFI zboot, lz4",
        };
        return Ok(Some((inner, name)));
    }
    unpack_plain(data)
}

fn unpack_plain(data: &[u8]) -> Result<Option<(Vec<u8>, &'static str)>, String> {
    let Some(method) = METHODS.iter().find(|m| data.starts_with(m.magic)) else {
        return Ok(None);
    };
    let name = method.name;
    let open = method.open.ok_or_else(|| {
        format!("it is compressed by {name}, which is not known here; unpack it first")
    })?;
    let damaged = |err| format!("it is compressed by {name}, and damaged: {err}");
    let mut inner = Vec::new();
    let reader = open(data).map_err(damaged)?;
    let size = reader.take(MOST).read_to_end(&mut inner).map_err(damaged)?;
    if size as u64 == MOST {
        return Err(format!(
            "it is compressed by {name}, and larger than {} GiB unpacked; is it an image at all?",
            MOST >> 30
        ));
    }
    Ok(Some((inner, name)))
}

/// The payload of an EFI zboot image (drivers/firmware/efi/libstub/zboot-header.S).
fn zboot(data: &[u8]) -> Result<Option<&[u8]>, String> {
    if !data.starts_with(b"MZ") || data.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    let number = |at: usize| {
        let bytes = data.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let place = number(8).zip(number(12));
    let payload = place.and_then(|(at, size)| data.get(at..at.checked_add(size)?));
    match payload {
        Some(payload) => Ok(Some(payload)),
        None => Err(
            "it is an EFI zboot image, and cut off: its header names bytes beyond its end".into(),
        ),
    }
}
