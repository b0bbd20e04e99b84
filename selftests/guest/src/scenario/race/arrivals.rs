// SPDX-License-Identifier: GPL-2.0
//! Sessions that have arrived, and that all threads want to retrieve: exactly one gets each, whole,
//! and ends it in one of the ways there are.

use super::{device, intact, Chance, WISH};
use crate::event;
use crate::memory;
use anyhow::{ensure, Result};
use liveupdate_uapi::{Device, RetrieveError, RetrieveSessionError, RetrievedSession, Session};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

const COUNT: u64 = 150;
const FILES: u64 = 2;

pub struct Arrivals {
    expected: bool,
    /// How often each was retrieved.
    got: Vec<AtomicU64>,
}

fn name(number: u64) -> String {
    format!("arrival/{number}")
}

fn seed(number: u64, token: u64) -> u64 {
    5000 + number * FILES + token
}

/// Makes what arrives in the next kernel.
pub fn hand_over() -> Result<Vec<Session>> {
    let device = Device::open()?;
    (0..COUNT)
        .map(|number| {
            let session = device.create_session(name(number))?;
            for token in 0..FILES {
                session.preserve(memory::filled(&WISH, seed(number, token))?, token)?;
            }
            Ok(session)
        })
        .collect()
}

impl Arrivals {
    pub fn new(expected: bool) -> Self {
        Self {
            expected,
            got: (0..COUNT).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Tries to retrieve one of those whose time has come: they must last for the whole race.
    pub fn act(&self, chance: &mut Chance, part: f64) -> Result<()> {
        let open = (part * COUNT as f64) as u64;
        let number = chance.below(open.clamp(1, COUNT));
        let Some(device) = device()? else {
            return Ok(());
        };
        let found = device.retrieve_session(name(number));
        drop(device);
        match found {
            Ok(session) => self.have(number, session, chance),
            Err(RetrieveSessionError::Unknown | RetrieveSessionError::AlreadyRetrieved) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn have(&self, number: u64, session: RetrievedSession, chance: &mut Chance) -> Result<()> {
        if let Ok(index) = usize::try_from(number) {
            self.got[index].fetch_add(1, Ordering::Relaxed);
        }
        let how = chance.below(5);
        if how > 0 {
            // Both at the same time, and each of them twice.
            std::thread::scope(|scope| {
                let take = |token| {
                    for _ in 0..2 {
                        intact(session.retrieve(token)?, seed(number, token))?;
                    }
                    anyhow::Ok(())
                };
                let other = scope.spawn(move || take(1));
                let mine = take(0);
                let other = other.join().unwrap_or_else(|_| anyhow::bail!("panic"));
                mine.and(other)
            })?;
        }
        match how {
            1 => drop(session),
            2 => {
                let duplicate = session.as_fd().try_clone_to_owned()?;
                drop(session);
                drop(duplicate);
            }
            3 => {
                let same = RetrievedSession::from(session.as_fd().try_clone_to_owned()?);
                // Finished while a file is being retrieved.
                let late = std::thread::scope(|scope| {
                    let late = scope.spawn(|| same.retrieve(0).map(drop));
                    let finished = session.finish().map_err(|failed| failed.error);
                    (finished, late.join())
                });
                let right = matches!(late, (Ok(()), Ok(Ok(()) | Err(RetrieveError::Unknown))));
                ensure!(right, "{}: {late:?}", name(number));
            }
            _ => session.finish()?,
        }
        Ok(())
    }

    /// After the race: what nobody has got is still there, and nothing was got twice.
    pub fn all_came(&self) -> Result<()> {
        if !self.expected {
            return Ok(());
        }
        let device = Device::open()?;
        let (mut raced, mut left, mut wrong) = (0, 0, Vec::new());
        for (got, number) in self.got.iter().zip(0..) {
            let now = device.retrieve_session(name(number)).map(drop);
            match (got.load(Ordering::Relaxed), now) {
                (1, Err(RetrieveSessionError::Unknown)) => raced += 1,
                (0, Ok(())) => left += 1,
                (got, now) => wrong.push(format!("{}: {got} times, then {now:?}", name(number))),
            }
        }
        event::check(
            "each session that arrived was retrieved once",
            wrong.is_empty() && raced > 0,
            match wrong.is_empty() {
                true => format!("{raced} in the race, {left} after it"),
                false => wrong.join("; "),
            },
        );
        Ok(())
    }
}
