// SPDX-License-Identifier: GPL-2.0
//! A service of luod's that comes and goes: it is there for one update of the soak, and not for the
//! next.

use super::super::luod::{self, Luod, Program};
use crate::cmdline::Cmdline;
use crate::initramfs;
use anyhow::{bail, Result};
use std::time::Duration;

const ENTRIES: &str = "200";
const SOON: Duration = Duration::from_secs(60);

fn start() -> Result<(Luod, Program)> {
    luod::furnish()?;
    let luod = Luod::start(None)?;
    let service = Program::start("/tests/cache", &["soak", ENTRIES], 0, 0)?;
    Ok((luod, service))
}

/// Has luoctl drive the update. Returns only if that failed.
pub fn hand_over(cmdline: &Cmdline) -> Result<()> {
    let (_luod, mut service) = start()?;
    service.expect("cold", SOON)?;
    service.expect("serving", SOON)?;
    drop(initramfs::pack()?);
    let mut luoctl = Program::spawn(luod::luoctl(cmdline, &[])?)?;
    let code = luoctl.end(Duration::from_secs(120))?;
    bail!("luoctl came back with {code:?}: {}", luoctl.all())
}

/// The service has what it had.
pub fn receive() -> Result<()> {
    let (_luod, mut service) = start()?;
    service.expect(&format!("warm {ENTRIES}"), SOON)?;
    service.expect("serving", SOON)?;
    Ok(())
}
