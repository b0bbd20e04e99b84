// SPDX-License-Identifier: GPL-2.0
//! The selftests for a booted machine, `make -C selftests run_tests`: all that needs no kexec, told
//! as TAP. They undo what they do, and leave what others have preserved alone.

mod memfd;

use crate::event;
use crate::scenario::{agent_killed, ioctls};
use anyhow::Result;
use liveupdate_uapi::{Device, Errno};

/// Runs them; gives the exit code.
pub fn run() -> i32 {
    event::open_tap();
    let result = match absent() {
        Some(why) => Err(why),
        None => Ok(play()),
    };
    let Some(mut tap) = event::tap() else {
        return 1;
    };
    match result {
        Err(why) => tap.skip_all(&why),
        Ok(Err(error)) => tap.bail_out(&format!("{error:#}")),
        Ok(Ok(())) => tap.end(),
    }
}

/// Why nothing can be tried here.
fn absent() -> Option<String> {
    const DEVICE: &str = "/dev/liveupdate";
    let error = Device::open().err()?;
    Some(match error.errno() {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => format!(
            "there is no {DEVICE}; boot a kernel with CONFIG_LIVEUPDATE, and with kho=on liveupdate=on on its command line"
        ),
        Errno::ACCESS | Errno::PERM => format!("{DEVICE} cannot be opened by this user; run it as root"),
        Errno::BUSY => format!("another program has {DEVICE} open; stop it while the tests run"),
        _ => format!("{DEVICE}: {error}"),
    })
}

fn play() -> Result<()> {
    ioctls::within()?;
    agent_killed::before()?;
    memfd::play(&Device::open()?)
}
