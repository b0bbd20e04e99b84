// SPDX-License-Identifier: GPL-2.0
//! What one kernel of the soak tells the next: which sessions there are, and what is in their
//! files. It goes along in a memfd.

use super::items::Item;
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Session};
use rustix::fs::{memfd_create, MemfdFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;

const SESSION: &str = "soak-ledger";

/// What the next kernel does with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Takes all of it.
    Claim,
    /// Finishes it without asking for a file.
    Finish,
    /// Never asks for it.
    Leave,
}

/// A session, its files being the tokens from 0 on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub fate: Fate,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub entries: Vec<Entry>,
    /// MemTotal of the first kernel that got all of it back.
    pub total: Option<u64>,
    /// Whether all memory is in the next kernel's hands once it has claimed.
    pub all_back: bool,
    /// Whether a service of luod's comes along.
    pub service: bool,
}

impl Ledger {
    /// Preserves it in a session of its own.
    pub fn preserve(&self, device: &Device) -> Result<Session> {
        let file = File::from(memfd_create("ledger", MemfdFlags::CLOEXEC)?);
        file.write_all_at(&serde_json::to_vec(self)?, 0)?;
        let session = device.create_session(SESSION)?;
        session.preserve(&file, 0)?;
        Ok(session)
    }

    /// The ledger that the kernel before wrote.
    pub fn retrieve(device: &Device) -> Result<Self> {
        let session = device
            .retrieve_session(SESSION)
            .context("the ledger did not arrive")?;
        let file = File::from(session.retrieve(0)?);
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
        file.read_exact_at(&mut bytes, 0)?;
        session.finish()?;
        serde_json::from_slice(&bytes).context("the ledger is damaged")
    }
}
