// SPDX-License-Identifier: GPL-2.0
//! A swap device in compressed memory, and pushing a file out to it.

use crate::{machine, sys};
use anyhow::{ensure, Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;

const DEVICE: &str = "/dev/zram0";
const BYTES: u64 = 256 << 20;

/// Makes the swap device and turns it on.
pub fn on() -> Result<()> {
    machine::switch("/sys/block/zram0/disksize", &BYTES.to_string())?;
    // What mkswap writes: version, last page, and the magic number at the end of the first page.
    let mut header = vec![0u8; sys::PAGE];
    header[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    header[1028..1032].copy_from_slice(&((BYTES / 4096 - 1) as u32).to_ne_bytes());
    header[4086..].copy_from_slice(b"SWAPSPACE2");
    File::options()
        .write(true)
        .open(DEVICE)?
        .write_all_at(&header, 0)?;
    sys::swapon(DEVICE).with_context(|| format!("cannot swap to {DEVICE}"))
}

/// Pushes a file's pages out. For small files it may not come to that.
pub fn out(file: &File, bytes: u64) -> Result<()> {
    const LARGE: u64 = 8 << 20;
    if bytes == 0 {
        return Ok(());
    }
    let before = machine::memory_figure("/proc/meminfo", "SwapFree")?;
    sys::page_out(file, usize::try_from(bytes)?)?;
    let gone = before.saturating_sub(machine::memory_figure("/proc/meminfo", "SwapFree")?);
    ensure!(
        bytes < LARGE || gone >= bytes / 2,
        "only {gone} of {bytes} bytes were swapped out"
    );
    Ok(())
}
