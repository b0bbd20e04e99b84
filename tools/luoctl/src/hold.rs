// SPDX-License-Identifier: GPL-2.0
//! A process in the background that keeps a session open, and how it is found again.

use crate::sysfs;
use anyhow::{Context, Result};
use rustix::process::{
    kill_process, pidfd_getfd, pidfd_open, setsid, Pid, PidfdFlags, PidfdGetfdFlags, Signal,
};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// What it is called in the list of processes, before the session's name.
const ROLE: &str = "hold";

/// Starts one. The session is its standard input.
pub fn start(name: &str, session: OwnedFd) -> Result<u32> {
    let child = Command::new("/proc/self/exe")
        .args([ROLE, "--", name])
        .stdin(Stdio::from(session))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start a process that keeps the session open")?;
    Ok(child.id())
}

/// What it does: nothing, until it is killed.
pub fn hold() -> Result<()> {
    // Not to be ended with the terminal.
    let _ = setsid();
    loop {
        std::thread::park();
    }
}

/// Finds the one of a session.
fn find(name: &str) -> Option<(Pid, i32)> {
    let escaped = name.as_bytes().escape_ascii().to_string();
    sysfs::open_sessions()
        .into_iter()
        .filter(|(other, _, _)| *other == escaped)
        .find_map(|(_, pid, fd)| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words = line.split(|byte| *byte == 0).skip(1);
            let ours =
                words.next() == Some(ROLE.as_bytes()) && words.nth(1) == Some(name.as_bytes());
            let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
            ours.then_some((pid, fd))
        })
}

/// Ends it; false if there is none.
pub fn end(name: &str) -> Result<bool> {
    let Some((pid, _)) = find(name) else {
        return Ok(false);
    };
    kill_process(pid, Signal::TERM).context("cannot end the process that keeps it open")?;
    Ok(true)
}

/// A session that one has open, for this process too.
pub fn borrow(name: &str) -> Option<OwnedFd> {
    let (pid, fd) = find(name)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).ok()
}
