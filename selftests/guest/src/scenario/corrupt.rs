// SPDX-License-Identifier: GPL-2.0
//! Hands over a root FDT that is not ours any more, then checks that the next kernel, having
//! refused it, can still do a clean update.

use super::update;
use crate::cmdline::Cmdline;
use crate::{event, kexec, physical};
use anyhow::{bail, Context, Result};
use std::os::unix::fs::FileExt;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    if cmdline.generation() > 0 {
        return update::play(cmdline);
    }
    kexec::load(cmdline)?;
    let address = physical::root_fdt()?;
    event::value("root fdt", address);
    let memory = physical::memory()?;
    let mut page = vec![0u8; 4096];
    memory.read_exact_at(&mut page, address)?;
    let (place, bytes): (usize, &[u8]) = match cmdline.get("damage") {
        Some("magic") => (0, &[0x13, 0x37]),
        Some("version") => {
            let at = physical::position(&page, b"kho-v").context("no version in the root FDT")?;
            (at + 5, b"9")
        }
        other => bail!("lu.damage={other:?} is neither magic nor version"),
    };
    memory
        .write_all_at(bytes, address + place as u64)
        .context("cannot write the root FDT through /dev/mem; STRICT_DEVMEM must be off")?;
    kexec::jump()
}
