// SPDX-License-Identifier: GPL-2.0
//! A crash kernel: loaded with KEXEC_FILE_ON_CRASH, entered through a panic; it must boot with KHO
//! disabled.

use crate::cmdline::Cmdline;
use crate::{event, kexec, machine, sys};
use anyhow::{bail, Context, Result};
use serde_json::json;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    if cmdline.generation() > 0 {
        let device = liveupdate_uapi::Device::open().is_ok();
        event::send("offers", json!({"device": device}));
        return Ok(());
    }
    let chain = cmdline.chain();
    let kernel = chain
        .first()
        .context("there is no crash kernel in lu.chain")?;
    kexec::load_as(kernel, &cmdline.for_next(), sys::KEXEC_FILE_ON_CRASH)
        .context("cannot load the crash kernel")?;
    event::send("kexec", json!({}));
    machine::switch("/proc/sysrq-trigger", "c")?;
    bail!("the machine did not crash")
}
