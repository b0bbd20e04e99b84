// SPDX-License-Identifier: GPL-2.0
//! What each slot was doing, in a memfd that goes through the update itself: written through a
//! mapping up to the last moment.

use crate::sys::{Mapping, PAGE};
use anyhow::Result;
use liveupdate_uapi::{Device, Session};
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

const NAME: &str = "log";

/// Two numbers a slot.
pub struct Log {
    file: File,
    words: Mapping,
}

/// A slot's state: the round it has begun, and the round whose session is open and has all its
/// files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub begun: u64,
    pub complete: u64,
}

impl Log {
    pub fn new() -> Result<Self> {
        let file = File::from(memfd_create("log", MemfdFlags::CLOEXEC)?);
        ftruncate(&file, PAGE as u64)?;
        Self::of(file)
    }

    fn of(file: File) -> Result<Self> {
        let words = Mapping::new(&file, PAGE)?;
        Ok(Self { file, words })
    }

    pub fn hand_over(&self) -> Result<Session> {
        let session = Device::open()?.create_session(NAME)?;
        session.preserve(&self.file, 0)?;
        Ok(session)
    }

    pub fn retrieve() -> Result<Self> {
        let session = Device::open()?.retrieve_session(NAME)?;
        let log = Self::of(session.retrieve(0)?.into())?;
        session.finish()?;
        Ok(log)
    }

    fn words(&self, slot: usize) -> [&AtomicU64; 2] {
        let words = self.words.atomic_words();
        [&words[2 * slot], &words[2 * slot + 1]]
    }

    pub fn state(&self, slot: usize) -> State {
        let [begun, complete] = self.words(slot);
        State {
            begun: begun.load(Ordering::SeqCst),
            complete: complete.load(Ordering::SeqCst),
        }
    }

    /// Before the session is created.
    pub fn begin(&self, slot: usize, round: u64) {
        self.words(slot)[0].store(round, Ordering::SeqCst);
    }

    /// After the last file is preserved; with 0, before the session is closed.
    pub fn complete(&self, slot: usize, round: u64) {
        self.words(slot)[1].store(round, Ordering::SeqCst);
    }
}
