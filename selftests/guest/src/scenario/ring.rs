// SPDX-License-Identifier: GPL-2.0
//! The sample of a driver in Rust that works on its requests all the time: the machine jumps in the
//! middle of it, twice. What became of them the kernels say, and the runner reads.

use crate::cmdline::Cmdline;
use crate::{event, formats, kexec};
use anyhow::{bail, Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Done before the first update, and in each kernel after it until the next.
const FIRST: u64 = 2000;
const STEP: u64 = 3000;
/// How long is waited for that.
const PATIENCE: Duration = Duration::from_secs(100);

pub fn play(cmdline: &Cmdline) -> Result<()> {
    event::check(
        "the catalogue has the format of the requests",
        formats::has("liveupdate-ring", 1),
        "liveupdate-ring:1",
    );
    if cmdline.chain().is_empty() {
        return Log::open()?.wait("the end", |line| line.contains(" requests are complete"));
    }
    // Before the wait: from there on it is not far to the jump.
    kexec::load(cmdline)?;
    let least = FIRST + STEP * cmdline.generation();
    Log::open()?.wait(&format!("{least} requests"), |line| {
        done(line).is_some_and(|done| done >= least)
    })?;
    kexec::jump()
}

/// How many requests are done, if a line of the driver's says so.
fn done(line: &str) -> Option<u64> {
    let (_, said) = line.split_once("liveupdate_ring: ")?;
    let (number, _) = said
        .strip_suffix(" requests are done")?
        .split_once(" of ")?;
    number.parse().ok()
}

/// The kernel's log, from its beginning.
struct Log(File);

impl Log {
    fn open() -> Result<Self> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .map(Self)
            .context("cannot open /dev/kmsg")
    }

    /// Waits until there is a line that is `wanted`.
    fn wait(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(len) => {
                    let text = String::from_utf8_lossy(&record[..len]);
                    if let Some(line) = text.lines().next().filter(|line| wanted(line)) {
                        let (_, message) = line.split_once(';').unwrap_or(("", line));
                        event::check(&format!("it came to {what}"), true, message);
                        return Ok(());
                    }
                }
                // Records that were not read in time are gone.
                Err(err) if err.kind() == ErrorKind::BrokenPipe => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() > end {
                        bail!("the driver did not come to {what} in {PATIENCE:?}");
                    }
                    sleep(Duration::from_millis(20));
                }
                Err(err) => return Err(err).context("cannot read /dev/kmsg"),
            }
        }
    }
}
