// SPDX-License-Identifier: GPL-2.0
//! A command that has a session open.

use crate::{device, files};
use anyhow::{Context, Result};
use rustix::io::{fcntl_setfd, FdFlags};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub fn run(name: &str, retrieve: bool, command: &[OsString]) -> Result<()> {
    let session: OwnedFd = match retrieve {
        true => files::incoming(name)?.into(),
        false => device::open()?.create_session(name)?.into(),
    };
    let (program, arguments) = command.split_first().context("there is no command")?;
    fcntl_setfd(&session, FdFlags::empty())?;
    let error = Command::new(program)
        .args(arguments)
        .env("LUO_SESSION_FD", session.as_raw_fd().to_string())
        .env("LUO_SESSION_NAME", name)
        .exec();
    Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
}
