// SPDX-License-Identifier: GPL-2.0
//! Each ioctl with every wrong argument: the error number, and that nothing has changed. The first
//! kernel tries what goes out, the second what comes in.

mod device;
mod incoming;
mod outgoing;
mod table;

use crate::cmdline::Cmdline;
use crate::kexec;
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Errno, OpenError, Session};
use rustix::fs::{memfd_create, MemfdFlags};
use std::fs::File;
use std::io::Write;
pub use table::resizable;
use table::{verdict, Table};

/// What needs no update before it: all that is not about sessions that have arrived.
pub fn within() -> Result<()> {
    let mut table = Table::new()?;
    device::exclusive()?;
    let device = Device::open()?;
    incoming::unknown(&mut table, &device);
    device::play(&mut table, &device)?;
    outgoing::play(&mut table, &device)
}

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let mut table = Table::new()?;
    device::exclusive()?;
    if cmdline.generation() > 0 {
        return incoming::play(&mut table);
    }
    let device = Device::open()?;
    device::play(&mut table, &device)?;
    outgoing::play(&mut table, &device)?;
    let _sessions = hand_over(&device)?;
    drop(device);
    kexec::load(cmdline)?;
    kexec::jump()
}

/// The sessions that the second kernel is asked for, with the tokens of their files; a file's
/// content is its token.
const HANDED_OVER: [(&str, &[u64]); 5] = [
    ("in/files", &[0, 7, u64::MAX]),
    ("in/empty", &[]),
    ("in/readonly", &[1]),
    ("in/finish", &[1, 2]),
    ("in/left", &[1]),
];

fn hand_over(device: &Device) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for (name, tokens) in HANDED_OVER {
        let session = device.create_session(name)?;
        for token in tokens {
            session.preserve(memfd(&token.to_string())?, *token)?;
        }
        sessions.push(session);
    }
    Ok(sessions)
}

/// A memfd with a text in it.
fn memfd(content: &str) -> Result<File> {
    let memfd = memfd_create("ioctls", MemfdFlags::CLOEXEC).context("memfd_create failed")?;
    let mut memfd = File::from(memfd);
    memfd.write_all(content.as_bytes())?;
    Ok(memfd)
}

/// The errno that another process gets when it opens the device; 0 when it gets it.
fn errno_of_other_opener() -> Result<i32> {
    let status = std::process::Command::new("/proc/self/exe")
        .arg("open-device")
        .status()
        .context("cannot start another process")?;
    status.code().context("the other process was killed")
}

/// The other process.
pub fn open_device() -> i32 {
    Device::open().map_or_else(|error: OpenError| error.errno().raw_os_error(), |_| 0)
}

/// Reports whether a call ended as it must.
fn ends<T>(case: &str, got: Result<T, Errno>, want: Result<(), Errno>) {
    let got = got.map(drop);
    let trouble = (got != want).then(|| format!("{got:?} instead of {want:?}"));
    verdict(case, trouble);
}
