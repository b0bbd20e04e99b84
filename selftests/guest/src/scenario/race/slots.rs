// SPDX-License-Identifier: GPL-2.0
//! Sessions that a thread has for itself, made and closed again and again: their names and files
//! are its own, so each step must succeed.

use super::log::Log;
use super::{device, intact, Chance, THREADS, WISH};
use crate::memory;
use crate::scenario::ioctls::resizable;
use anyhow::{bail, ensure, Context, Result};
use liveupdate_uapi::{
    Device, PreserveError, RetrieveError, RetrieveSessionError, RetrievedSession, Session,
};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Of each thread.
const SLOTS: u64 = 4;
const FILES: u64 = 3;
/// More than starting a process takes on the slowest machine.
const ENOUGH: Duration = Duration::from_secs(20);

struct Slot {
    number: u64,
    round: u64,
    files: Vec<File>,
    session: Option<Session>,
}

pub struct Slots(Vec<Slot>);

fn name(slot: u64, round: u64) -> String {
    format!("slot/{slot}/{round}")
}

fn seed(slot: u64, token: u64) -> u64 {
    1000 + slot * FILES + token
}

impl Slots {
    pub fn new(thread: u64) -> Result<Self> {
        let slot = |number| {
            let file = |token| memory::filled(&WISH, seed(number, token));
            Ok(Slot {
                number,
                round: 0,
                files: (0..FILES).map(file).collect::<Result<_>>()?,
                session: None,
            })
        };
        let all = thread * SLOTS..(thread + 1) * SLOTS;
        Ok(Self(all.map(slot).collect::<Result<_>>()?))
    }

    pub fn act(&mut self, log: &Log, chance: &mut Chance) -> Result<()> {
        let index = usize::try_from(chance.below(SLOTS))?;
        let slot = self.0.get_mut(index).context("no such slot")?;
        let named = format!("slot {}, round {}", slot.number, slot.round);
        slot.act(log, chance).context(named)
    }
}

impl Slot {
    fn act(&mut self, log: &Log, chance: &mut Chance) -> Result<()> {
        let at = usize::try_from(self.number)?;
        let Some(session) = &self.session else {
            let Some(device) = device()? else {
                return Ok(());
            };
            self.round += 1;
            log.begin(at, self.round);
            let session = device.create_session(name(self.number, self.round))?;
            drop(device);
            for (file, token) in self.files.iter().zip(0..) {
                preserve(&session, file, token)?;
            }
            log.complete(at, self.round);
            self.session = Some(session);
            return Ok(());
        };
        match chance.below(4) {
            0 => {
                let said = session.name()?;
                ensure!(said.as_bytes() == name(self.number, self.round).as_bytes());
            }
            1 => {
                let token = chance.below(FILES);
                let file = chance.pick(&self.files).context("no file")?;
                let used = session.preserve(file, token);
                ensure!(used == Err(PreserveError::TokenUsed), "{used:?}");
                let busy = session.preserve(file, FILES + token);
                ensure!(busy == Err(PreserveError::FilePreserved), "{busy:?}");
            }
            2 => drop(session.as_fd().try_clone_to_owned()?),
            _ => {
                log.complete(at, 0);
                self.session = None;
                // A process that is just being started has all descriptors until its exec.
                let clock = Instant::now();
                while !self.files.iter().all(resizable) {
                    ensure!(clock.elapsed() < ENOUGH, "a close undid nothing");
                    std::thread::yield_now();
                }
            }
        }
        Ok(())
    }
}

/// Preserves a file of a session that may still be closing in another process: it can be resized a
/// moment before it is given up.
fn preserve(session: &Session, file: &File, token: u64) -> Result<()> {
    let clock = Instant::now();
    loop {
        match session.preserve(file, token) {
            Err(PreserveError::FilePreserved) if clock.elapsed() < ENOUGH => {
                std::thread::yield_now();
            }
            done => return Ok(done?),
        }
    }
}

/// Looks at all slots of the kernel before. Says how many were complete, and how many had arrived
/// but were not.
pub fn verify(log: &Log) -> Result<(u64, u64)> {
    let device = Device::open()?;
    let (mut complete, mut building) = (0, 0);
    for slot in 0..THREADS * SLOTS {
        let state = log.state(usize::try_from(slot)?);
        let named = format!("slot {slot}, round {}", state.begun);
        for before in state.begun.saturating_sub(2)..state.begun {
            if device.retrieve_session(name(slot, before)).is_ok() {
                bail!("{named}: round {before}, which was closed, has arrived");
            }
        }
        match device.retrieve_session(name(slot, state.begun)) {
            Err(RetrieveSessionError::Unknown) if state.complete == 0 => {}
            Ok(session) if state.complete == 0 => {
                consistent(&session, slot).context(named)?;
                building += 1;
            }
            Ok(session) => {
                let files = consistent(&session, slot).context(named.clone())?;
                ensure!(files == FILES, "{named}: only {files} files have arrived");
                ensure!(state.complete == state.begun, "{named}: the log is broken");
                complete += 1;
            }
            Err(error) => bail!("{named}: it was complete: {error}"),
        }
    }
    Ok((complete, building))
}

/// Files were preserved in order, so those that are there are the first ones. Says how many.
fn consistent(session: &RetrievedSession, slot: u64) -> Result<u64> {
    let mut there = 0;
    for token in 0..FILES {
        match session.retrieve(token) {
            Ok(_) if there < token => bail!("token {token} is there without the one before"),
            Ok(file) => {
                intact(file, seed(slot, token))?;
                there += 1;
            }
            Err(RetrieveError::Unknown) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(there)
}
