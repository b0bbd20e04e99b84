// SPDX-License-Identifier: GPL-2.0
//! Processes that make and close sessions as fast as they can, and are killed at moments of chance.

use super::{device, intact, Chance, PROCESSES, WISH};
use crate::memory;
use anyhow::{Context, Result};
use liveupdate_uapi::{CreateSessionError, Device, RetrieveError, RetrieveSessionError};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const FILES: u64 = 3;

fn name(racer: u64) -> String {
    format!("racer/{racer}")
}

fn seed(racer: u64, token: u64) -> u64 {
    100 + racer * FILES + token
}

/// The processes as the one that kills them has them.
pub struct Racers {
    files: Vec<Vec<File>>,
    kills: AtomicU64,
}

impl Racers {
    pub fn new() -> Result<Self> {
        let files = |racer| {
            (0..FILES)
                .map(|token| memory::filled(&WISH, seed(racer, token)))
                .collect()
        };
        Ok(Self {
            files: (0..PROCESSES).map(files).collect::<Result<_>>()?,
            kills: AtomicU64::new(0),
        })
    }

    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    fn start(&self, racer: usize) -> Result<Child> {
        let files = self.files.get(racer).into_iter().flatten();
        Command::new("/proc/self/exe")
            .args(["racer", &racer.to_string()])
            .args(files.map(|file| file.as_raw_fd().to_string()))
            .spawn()
            .context("cannot start a racer")
    }

    pub fn run(&self, over: &AtomicBool) -> Result<()> {
        let mut chance = Chance::new();
        let start = |racer| self.start(racer);
        let mut racers: Vec<Child> = (0..self.files.len()).map(start).collect::<Result<_>>()?;
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50 + chance.below(300)));
            let index = usize::try_from(chance.below(PROCESSES))?;
            let racer = racers.get_mut(index).context("no such racer")?;
            // One that ended by itself has said why.
            let ended = racer.try_wait()?;
            anyhow::ensure!(ended.is_none(), "racer {index} ended: {ended:?}");
            racer.kill()?;
            racer.wait()?;
            self.kills.fetch_add(1, Ordering::Relaxed);
            *racer = self.start(index)?;
        }
        for racer in &mut racers {
            racer.kill()?;
            racer.wait()?;
        }
        Ok(())
    }
}

/// A racer's own side; it goes on until it is killed.
pub fn play() -> Result<()> {
    let mut arguments = std::env::args().skip(2);
    let racer: u64 = arguments.next().context("no number was given")?.parse()?;
    let open = |fd: String| {
        File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/1/fd/{fd}"))
    };
    let files: Vec<File> = arguments.map(open).collect::<std::io::Result<_>>()?;
    loop {
        let Some(device) = device()? else {
            continue;
        };
        let session = match device.create_session(name(racer)) {
            // The one before was killed, and the update holds its end up.
            Err(CreateSessionError::Exists) => continue,
            other => other?,
        };
        drop(device);
        for (file, token) in files.iter().zip(0..) {
            session.preserve(file, token)?;
        }
    }
}

/// What has arrived is whole, as far as it had come. Says how many sessions have.
pub fn verify() -> Result<u64> {
    let device = Device::open()?;
    let mut sessions = 0;
    for racer in 0..PROCESSES {
        let session = match device.retrieve_session(name(racer)) {
            Ok(session) => session,
            Err(RetrieveSessionError::Unknown) => continue,
            Err(error) => return Err(error.into()),
        };
        sessions += 1;
        for token in 0..FILES {
            match session.retrieve(token) {
                Ok(file) => intact(file, seed(racer, token)).context(name(racer))?,
                // Files were preserved in order.
                Err(RetrieveError::Unknown) => {
                    let more = (token..FILES).any(|token| session.retrieve(token).is_ok());
                    anyhow::ensure!(!more, "{}: {token} is left out", name(racer));
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(sessions)
}
