// SPDX-License-Identifier: GPL-2.0
//! Sessions and files that all threads fight for: each of several ends is right, and no other.

use super::{device, Chance, WISH};
use crate::memory;
use anyhow::{bail, ensure, Result};
use liveupdate_uapi::{
    CreateSessionError, Device, PreserveError, RetrieveError, RetrieveSessionError, Session,
};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

const NAMES: u64 = 6;
const TOKENS: u64 = 4;
const FILES: u64 = 8;
const SEED: u64 = 500;

pub struct Pool {
    files: Vec<File>,
    sessions: Mutex<Vec<Arc<Session>>>,
}

fn name(number: u64) -> String {
    format!("pool/{number}")
}

impl Pool {
    pub fn new() -> Result<Self> {
        let files = (0..FILES).map(|number| memory::filled(&WISH, SEED + number));
        Ok(Self {
            files: files.collect::<Result<_>>()?,
            sessions: Mutex::new(Vec::new()),
        })
    }

    pub fn act(&self, chance: &mut Chance) -> Result<()> {
        let with = |work: &dyn Fn(&mut Vec<Arc<Session>>)| {
            work(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        };
        match chance.below(6) {
            0 => {
                let Some(device) = device()? else {
                    return Ok(());
                };
                match device.create_session(name(chance.below(NAMES))) {
                    Ok(session) => {
                        let session = Arc::new(session);
                        with(&|all| all.push(Arc::clone(&session)));
                    }
                    Err(CreateSessionError::Exists) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            1 => {
                // Closes it, unless another thread is using it: then that one does.
                let number = chance.below(NAMES);
                let mut gone = None;
                let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(index) = usize::try_from(number) {
                    if index < all.len() {
                        gone = Some(all.swap_remove(index));
                    }
                }
                drop(all);
                drop(gone);
            }
            _ => {
                let all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                let session = chance.pick(&all).map(Arc::clone);
                drop(all);
                let (Some(session), Some(file)) = (session, chance.pick(&self.files)) else {
                    return Ok(());
                };
                match session.preserve(file, chance.below(TOKENS)) {
                    Ok(()) | Err(PreserveError::TokenUsed | PreserveError::FilePreserved) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// Whatever has arrived must be one of the files, and none of them twice. Says how many sessions
/// have.
pub fn verify() -> Result<u64> {
    let device = Device::open()?;
    let mut sessions = 0;
    let mut seen = Vec::new();
    for number in 0..NAMES {
        let session = match device.retrieve_session(name(number)) {
            Ok(session) => session,
            Err(RetrieveSessionError::Unknown) => continue,
            Err(error) => return Err(error.into()),
        };
        sessions += 1;
        for token in 0..TOKENS {
            let file = match session.retrieve(token) {
                Ok(file) => File::from(file),
                Err(RetrieveError::Unknown) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut which = None;
            for seed in SEED..SEED + FILES {
                if memory::verify(&file, &WISH, seed)?.is_none() {
                    which = Some(seed);
                }
            }
            let Some(which) = which else {
                bail!("{}: token {token} is no file of ours", name(number));
            };
            ensure!(!seen.contains(&which), "a file has arrived twice");
            seen.push(which);
        }
    }
    Ok(sessions)
}
