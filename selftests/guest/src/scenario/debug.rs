// SPDX-License-Identifier: GPL-2.0
//! The debug kernel's round: the kernel's selftest, a memfd update, a search for leaks in each
//! generation.

use super::{selftests, splats, update};
use crate::cmdline::Cmdline;
use anyhow::Result;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    if cmdline.generation() == 0 {
        selftests::run("liveupdate", &[])?;
    }
    update::play_and(cmdline, splats::leaks)
}
