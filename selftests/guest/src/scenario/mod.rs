// SPDX-License-Identifier: GPL-2.0
//! The scenarios by name; the runner picks one with `lu.scenario=`.

mod boot;
mod corrupt;
mod crash;
mod debug;
mod debugfs;
mod faults;
mod hostile;
mod selftests;
mod small_scratch;
mod splats;
mod update;

use crate::cmdline::Cmdline;
use anyhow::{bail, Result};

pub fn play(cmdline: &Cmdline) -> Result<()> {
    match cmdline.get("scenario") {
        Some("boot") => boot::play(),
        Some("update") => update::play(cmdline),
        Some("corrupt") => corrupt::play(cmdline),
        Some("crash") => crash::play(cmdline),
        Some("faults") => faults::play(cmdline),
        Some("hostile") => hostile::play(cmdline),
        Some("debug") => debug::play(cmdline),
        Some("selftests") => selftests::play(cmdline),
        Some("small-scratch") => small_scratch::play(cmdline),
        Some(other) => bail!("the guest knows no scenario \"{other}\""),
        None => bail!("lu.scenario= is missing from the kernel command line"),
    }
}
