// SPDX-License-Identifier: GPL-2.0
//! The step to the next kernel: load it, and jump.

use crate::cmdline::Cmdline;
use crate::{event, initramfs, sys};
use anyhow::{bail, Context, Result};
use rustix::system::{reboot, RebootCommand};
use serde_json::json;
use std::fs::File;

/// Loads the next kernel of the chain.
pub fn load(cmdline: &Cmdline) -> Result<()> {
    let chain = cmdline.chain();
    let next = chain
        .first()
        .context("there is no next kernel in lu.chain")?;
    load_as(next, &cmdline.for_next(), 0)
        .with_context(|| format!("the kernel refused to load /boot/{next}"))
}

/// Loads a kernel of this initramfs with a command line of its own.
pub fn load_as(name: &str, cmdline: &str, flags: u64) -> Result<()> {
    load_file(&format!("/boot/{name}"), cmdline, flags)
}

/// Loads the image in a file with a command line of its own.
pub fn load_file(path: &str, cmdline: &str, flags: u64) -> Result<()> {
    let kernel = File::open(path).with_context(|| format!("cannot open {path}"))?;
    let initrd = initramfs::pack()?;
    let result = sys::kexec_file_load(&kernel, &initrd, cmdline, flags);
    initramfs::forget();
    result.context("kexec_file_load failed")
}

/// Goes to the loaded kernel. Returns only when that fails.
pub fn jump() -> Result<()> {
    event::send("kexec", json!({}));
    reboot(RebootCommand::Kexec).context("the kernel refused reboot(RB_KEXEC)")?;
    bail!("reboot(RB_KEXEC) came back without an error")
}
