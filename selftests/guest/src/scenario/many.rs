// SPDX-License-Identifier: GPL-2.0
//! Many sessions, or many files in one, each step measured: for the benchmark. The first update
//! hands over nothing.

use crate::cmdline::Cmdline;
use crate::{event, kexec, machine};
use anyhow::{ensure, Context, Result};
use liveupdate_uapi::{Device, RetrievedSession, Session};
use rustix::fs::{memfd_create, MemfdFlags};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// The session that has the files.
const FILES: &str = "files";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let (sessions, files) = (cmdline.number("sessions", 0), cmdline.number("files", 0));
    let room = Some(sessions + files + 64);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: room,
            maximum: limit.maximum.max(room),
        },
    )
    .context("cannot raise RLIMIT_NOFILE")?;
    match cmdline.generation() {
        0 => {
            kexec::load(cmdline)?;
            jump()
        }
        1 => {
            let memfds = (0..files).map(memfd).collect::<Result<Vec<_>>>()?;
            let _sessions = make(sessions, &memfds)?;
            kexec::load(cmdline)?;
            jump()
        }
        _ => receive(sessions, files),
    }
}

/// As long as a page; its content is its number.
fn memfd(number: u64) -> Result<File> {
    let mut memfd = File::from(memfd_create("many", MemfdFlags::CLOEXEC)?);
    memfd.write_all(&number.to_ne_bytes())?;
    Ok(memfd)
}

fn name(number: u64) -> String {
    format!("session-{number}")
}

fn make(sessions: u64, files: &[File]) -> Result<Vec<Session>> {
    let device = Device::open()?;
    let mut made = event::phase("create", || {
        (0..sessions)
            .map(|number| Ok(device.create_session(name(number))?))
            .collect::<Result<Vec<_>>>()
    })?;
    if !files.is_empty() {
        let session = device.create_session(FILES)?;
        event::phase("preserve", || {
            files
                .iter()
                .zip(0..)
                .try_for_each(|(file, token)| Ok(session.preserve(file, token)?))
        })?;
        made.push(session);
    }
    Ok(made)
}

fn receive(sessions: u64, files: u64) -> Result<()> {
    let device = event::phase("open", || Ok(Device::open()?))?;
    let retrieved = event::phase("retrieve sessions", || {
        (0..sessions)
            .map(|number| Ok(device.retrieve_session(name(number))?))
            .collect::<Result<Vec<_>>>()
    })?;
    event::phase("finish sessions", || {
        retrieved
            .into_iter()
            .try_for_each(|session| Ok(session.finish()?))
    })?;
    if files > 0 {
        receive_files(device.retrieve_session(FILES)?, files)?;
    }
    event::send("all", serde_json::json!({"ok": true}));
    Ok(())
}

fn receive_files(session: RetrievedSession, files: u64) -> Result<()> {
    let retrieved = event::phase("retrieve files", || {
        (0..files)
            .map(|token| Ok(File::from(session.retrieve(token)?)))
            .collect::<Result<Vec<_>>>()
    })?;
    event::phase("finish files", || Ok(session.finish()?))?;
    for (file, number) in retrieved.iter().zip(0u64..) {
        let mut content = [0; 8];
        file.read_exact_at(&mut content, 0)?;
        ensure!(
            u64::from_ne_bytes(content) == number,
            "file {number} is another one"
        );
    }
    Ok(())
}

/// Jumps, with a line on the console whose time is that of the system call; the kernel's last line
/// has that of its end.
fn jump() -> Result<()> {
    machine::switch("/proc/sys/kernel/printk", "8")?;
    machine::switch("/dev/kmsg", "<5>bench: reboot")?;
    kexec::jump()
}
