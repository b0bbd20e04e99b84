// SPDX-License-Identifier: GPL-2.0
//! Opens the device, and waits for whoever has it: nobody has it for long.

use crate::ending::MayNot;
use crate::sysfs;
use anyhow::{bail, Context, Result};
use liveupdate_uapi::{Device, OpenError};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

pub fn open() -> Result<Device> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Device::open() {
            Err(OpenError::Busy) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(OpenError::Busy) => bail!(
                "somebody has had {} open for {} s; find out who (fuser {0}), and try again",
                Device::PATH,
                PATIENCE.as_secs()
            ),
            Err(OpenError::NotPermitted) => {
                return Err(MayNot("only root can open /dev/liveupdate; run luoctl as root").into())
            }
            Err(OpenError::Absent) => bail!("live update: {}", sysfs::why_off()),
            other => return other.context("no live update here"),
        }
    }
}
