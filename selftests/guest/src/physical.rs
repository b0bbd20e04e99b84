// SPDX-License-Identifier: GPL-2.0
//! Physical memory through /dev/mem: the `reserve_mem` region, and the page that holds the outgoing
//! root FDT.

use crate::fdt;
use crate::sys::PAGE;
use anyhow::{bail, Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

const KHO: &str = "/sys/kernel/debug/kho";

/// Physical memory, opened for reading and writing.
pub fn memory() -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/mem")
        .context("cannot open /dev/mem; the kernel needs CONFIG_DEVMEM=y")
}

/// Where a `reserve_mem` region lies: (start, bytes), from the subtree the kernel hands on about
/// it.
pub fn reserved_region(name: &str) -> Result<(u64, u64)> {
    let path = format!("{KHO}/out/sub_fdts/memblock");
    let blob = fs::read(&path)
        .with_context(|| format!("cannot read {path}; is reserve_mem= on the command line?"))?;
    match (
        fdt::value(&blob, name, "start"),
        fdt::value(&blob, name, "size"),
    ) {
        (Some(start), Some(size)) => Ok((
            // The kernel writes both in its own byte order.
            u64::from_ne_bytes(start.try_into()?),
            u64::from_ne_bytes(size.try_into()?),
        )),
        _ => bail!("{path} does not describe a region named {name}"),
    }
}

/// The page frames of /proc/iomem's "System RAM", as byte ranges.
fn system_ram() -> Result<Vec<(u64, u64)>> {
    let iomem = fs::read_to_string("/proc/iomem")?;
    Ok(iomem
        .lines()
        .filter(|line| line.ends_with(": System RAM"))
        .filter_map(|line| {
            let (range, _) = line.trim().split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            Some((
                u64::from_str_radix(start, 16).ok()?,
                u64::from_str_radix(end, 16).ok()? + 1,
            ))
        })
        .collect())
}

/// Finds the page with the outgoing root FDT: the one page of RAM that starts like the blob debugfs
/// shows.
pub fn root_fdt() -> Result<u64> {
    let path = format!("{KHO}/out/fdt");
    let shown = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
    let memory = memory()?;
    // One word off, so that our own copies of a page never start where a page starts.
    const SHIFT: usize = 8;
    let mut buffer = vec![0u8; SHIFT + 64 * PAGE];
    let mut found = Vec::new();
    for (start, end) in system_ram()? {
        // Pages that are RAM only in part cannot be read.
        let end = end / PAGE as u64 * PAGE as u64;
        let mut at = start.next_multiple_of(PAGE as u64);
        while at + PAGE as u64 <= end {
            let length = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(64 * PAGE);
            let chunk = &mut buffer[SHIFT..SHIFT + length];
            if memory.read_exact_at(chunk, at).is_ok() {
                let pages = chunk.chunks_exact(PAGE).zip((at..).step_by(PAGE));
                found.extend(
                    pages
                        .filter(|(page, _)| page.starts_with(&fdt::MAGIC) && names_kho(page))
                        // The size may have grown since debugfs took it; what the header says of
                        // the version has not.
                        .filter(|(page, _)| page.get(20..28) == shown.get(20..28))
                        .map(|(_, address)| address),
                );
            }
            at += length as u64;
        }
    }
    match found[..] {
        [] => bail!("no page of RAM holds the outgoing root FDT"),
        [address] => Ok(address),
        _ => {
            // A handover boot still has the one that came in: its content is what in/fdt shows.
            let incoming = fs::read(format!("{KHO}/in/fdt")).unwrap_or_default();
            let mut page = vec![0u8; SHIFT + incoming.len()];
            found.retain(|address| {
                memory.read_exact_at(&mut page[SHIFT..], *address).is_err()
                    || page[SHIFT..] != incoming[..]
            });
            match found[..] {
                [address] => Ok(address),
                _ => bail!(
                    "{} pages of RAM look like the root FDT: {found:x?}",
                    found.len()
                ),
            }
        }
    }
}

fn names_kho(page: &[u8]) -> bool {
    position(page, b"kho-v").is_some() && position(page, b"preserved-memory-map").is_some()
}

/// Where `needle` first stands in `page`.
pub fn position(page: &[u8], needle: &[u8]) -> Option<usize> {
    page.windows(needle.len())
        .position(|window| window == needle)
}
