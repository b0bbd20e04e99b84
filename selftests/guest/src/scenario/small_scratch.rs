// SPDX-License-Identifier: GPL-2.0
//! Scratch too small for the next kernel: loading it must fail, and the machine must go on.

use crate::cmdline::Cmdline;
use crate::{event, kexec};
use anyhow::Result;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let result = kexec::load(cmdline);
    let detail = match &result {
        Ok(()) => "the kernel took an image that does not fit into scratch".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    event::check(
        "a kernel that does not fit is refused at load",
        result.is_err(),
        detail,
    );
    Ok(())
}
