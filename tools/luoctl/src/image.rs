// SPDX-License-Identifier: GPL-2.0
//! What a bzImage says of itself in its header: Documentation/arch/x86/boot.rst of the kernel has
//! the offsets.

use anyhow::{bail, ensure, Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is read of a kernel image.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// As `uname -r` will say.
    pub release: String,
    /// Memory it needs in one piece until it is unpacked.
    pub memory: u64,
}

/// Reads the header of a kernel.
pub fn read(path: &Path) -> Result<(File, Image)> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open the kernel {name}"))?;
    let mut header = vec![0; 1 << 16];
    let mut length = 0;
    while length < header.len() {
        let rest = header.get_mut(length..).unwrap_or_default();
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) => bail!("cannot read the kernel {name}: {error}"),
        }
    }
    header.truncate(length);
    let image = parse(&header).with_context(|| format!("{name} cannot be loaded"))?;
    Ok((file, image))
}

fn parse(header: &[u8]) -> Result<Image> {
    const NOT: &str = "it is no bzImage of an x86-64 kernel (vmlinuz of a distribution is one)";
    ensure!(header.get(0x202..0x206) == Some(b"HdrS"), NOT);
    let number = |at: usize, bytes: usize| {
        let bytes = header.get(at..at + bytes)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    let version = number(0x206, 2).context(NOT)?;
    ensure!(version >= 0x20c, "its boot protocol is older than 2.12");
    let release = number(0x20e, 2).context(NOT)? as usize + 0x200;
    let release = header.get(release..).unwrap_or_default();
    let release = release.split(|byte| b" \0".contains(byte)).next();
    let release = release.filter(|release| release.len() < 128 && release.is_ascii());
    Ok(Image {
        release: String::from_utf8_lossy(release.unwrap_or_default()).into_owned(),
        memory: number(0x260, 4).context(NOT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut header = vec![0; 0x400];
        header[0x202..0x206].copy_from_slice(b"HdrS");
        header[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        header[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        header[0x260..0x264].copy_from_slice(&0x123_4567u32.to_le_bytes());
        header[0x300..0x30e].copy_from_slice(b"7.3.4-x (a@b)\0");
        header
    }

    #[test]
    fn a_header_is_read() {
        let image = parse(&sample()).expect("an image");
        assert_eq!(image.release, "7.3.4-x");
        assert_eq!(image.memory, 0x123_4567);
    }

    #[test]
    fn what_is_none_is_refused_however_it_is_cut() {
        let sample = sample();
        for length in 0..0x264 {
            assert!(parse(&sample[..length]).is_err(), "{length}");
        }
        assert!(parse(&sample[..0x270]).is_ok());
    }
}
