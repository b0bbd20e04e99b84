// SPDX-License-Identifier: GPL-2.0
//! A machine that is updated again and again: each kernel verifies what the one before left,
//! changes it at random, and hands it on.

mod items;
mod ledger;
mod service;

use super::driver;
use super::memfd::swap;
use crate::cmdline::Cmdline;
use crate::{event, kexec, machine};
use anyhow::{ensure, Context, Result};
use fastrand::Rng;
use items::Held;
use ledger::{Entry, Fate, Ledger};
use liveupdate_uapi::{Device, Session};
use rustix::io::Errno;
use serde_json::json;

/// Sessions that are handed over beside the ledger's own, at the most.
const SESSIONS: usize = 6;
/// Files of a session, at the most.
const FILES: usize = 5;
/// How far MemTotal may be off: the tables that describe scattered memory differ from update to
/// update.
const SLACK: u64 = 512 << 10;
/// One update in so many is driven by luoctl, with luod and a service.
const WITH_LUOD: u64 = 10;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let generation = cmdline.generation();
    let mut random = Rng::with_seed(cmdline.number("seed", 1) ^ generation.wrapping_mul(0x9e37));
    let round = round(cmdline, &mut random);
    let (ok, detail) = match &round {
        Ok(said) => (true, said.clone()),
        Err(error) => (false, format!("{error:#}")),
    };
    // The last kernel ends here; the others come here only when the update failed.
    event::check(&format!("update {generation}"), ok, detail);
    round.map(|_| ())
}

/// All that one kernel does. Returns only from the last one, or with what went wrong.
fn round(cmdline: &Cmdline, random: &mut Rng) -> Result<String> {
    let generation = cmdline.generation();
    swap::on()?;
    let (mut ledger, mut sessions) = match generation {
        0 => (Ledger::default(), Vec::new()),
        _ => receive(random)?,
    };
    if ledger.service {
        service::receive()?;
        ledger.service = false;
    }
    let total = machine::memory_figure("/proc/meminfo", "MemTotal")?;
    if ledger.all_back {
        let whole = *ledger.total.get_or_insert(total);
        ensure!(
            total.abs_diff(whole) <= SLACK,
            "MemTotal is {total} bytes, and was {whole} after the first update"
        );
    }
    let bytes: u64 = sessions
        .iter()
        .flat_map(Open::files)
        .map(|held| held.item.bytes())
        .sum();
    event::send(
        "round",
        json!({"sessions": sessions.len(), "bytes": bytes, "total": total,
               "left": ledger.entries.iter().filter(|entry| entry.fate == Fate::Leave).count()}),
    );
    if cmdline.chain().is_empty() {
        return Ok(format!(
            "{bytes} bytes in {} sessions are as they were",
            sessions.len()
        ));
    }
    change(&mut sessions, random)?;
    let swap = |name| machine::memory_figure("/proc/meminfo", name);
    event::value("swapped", swap("SwapTotal")? - swap("SwapFree")?);
    let by_luod = generation % WITH_LUOD == WITH_LUOD - 1;
    ledger.service = by_luod;
    ledger.entries = sessions
        .iter()
        .map(|session| session.entry.clone())
        .collect();
    ledger.all_back = ledger.entries.iter().all(|entry| entry.fate == Fate::Claim);

    // Given up, and preserved again: nothing must be left of the first time.
    if random.u8(..) < 48 {
        drop(preserve(&ledger, &sessions)?);
        for held in sessions.iter_mut().flat_map(Open::files_mut) {
            held.verify().context("after its session was closed")?;
        }
    }
    let _kept = preserve(&ledger, &sessions)?;
    // What was changed since PRESERVE_FD goes along as well.
    for held in sessions.iter_mut().flat_map(Open::files_mut) {
        held.touch()?;
        if random.u8(..) < 24 {
            held.page_out()?;
        }
    }
    if random.u8(..) < 24 {
        refused(cmdline)?;
        for held in sessions.iter_mut().flat_map(Open::files_mut) {
            held.verify().context("after a refused reboot")?;
        }
    }
    if by_luod {
        service::hand_over(cmdline)?;
    }
    kexec::load(cmdline)?;
    kexec::jump()?;
    Ok(String::new())
}

/// A session of this kernel: what the ledger says of it, and its files.
struct Open {
    entry: Entry,
    held: Vec<Held>,
}

impl Open {
    fn files(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.held.iter_mut()
    }
}

/// Takes what arrived, verifies it, and gives up what was to be left.
fn receive(random: &mut Rng) -> Result<(Ledger, Vec<Open>)> {
    let device = Device::open()?;
    let mut ledger = Ledger::retrieve(&device)?;
    let mut sessions = Vec::new();
    for entry in std::mem::take(&mut ledger.entries) {
        match entry.fate {
            Fate::Claim => {}
            Fate::Finish => {
                // Nobody asks for its files: they are given back.
                device.retrieve_session(&entry.name)?.finish()?;
                continue;
            }
            // It is never asked for. Its memory is free in the next kernel.
            Fate::Leave => {
                ledger.entries.push(entry);
                continue;
            }
        }
        let session = device
            .retrieve_session(&entry.name)
            .with_context(|| format!("session {}", entry.name))?;
        let mut order: Vec<usize> = (0..entry.items.len()).collect();
        random.shuffle(&mut order);
        let mut held: Vec<(usize, Held)> = Vec::new();
        for index in order {
            let file = session.retrieve(index as u64)?;
            let item = entry.items[index].clone();
            let mut one = Held {
                item,
                file: file.into(),
            };
            one.verify()
                .with_context(|| format!("file {index} of session {}", entry.name))?;
            held.push((index, one));
        }
        session.finish()?;
        held.sort_by_key(|(index, _)| *index);
        let held = held.into_iter().map(|(_, held)| held).collect();
        sessions.push(Open { entry, held });
    }
    Ok((ledger, sessions))
}

/// Drops some sessions and files, changes others, makes new ones.
fn change(sessions: &mut Vec<Open>, random: &mut Rng) -> Result<()> {
    sessions.retain(|session| session.entry.fate == Fate::Claim && random.u8(..) >= 40);
    for session in sessions.iter_mut() {
        session.held.retain(|_| random.u8(..) >= 32);
        for held in &mut session.held {
            if random.u8(..) < 64 {
                held.rewrite(random)?;
            }
            if random.u8(..) < 24 {
                held.page_out()?;
            }
        }
    }
    while sessions.len() < random.usize(1..=SESSIONS) {
        let name = format!("soak/{:016x}", random.u64(..));
        let entry = Entry {
            name,
            fate: Fate::Claim,
            items: Vec::new(),
        };
        sessions.push(Open {
            entry,
            held: Vec::new(),
        });
    }
    for session in sessions.iter_mut() {
        while session.held.len() < random.usize(0..=FILES) {
            session.held.push(Held::make(random)?);
        }
        session.entry.fate = match random.u8(..) {
            0..=15 => Fate::Leave,
            16..=40 => Fate::Finish,
            _ => Fate::Claim,
        };
    }
    Ok(())
}

/// Preserves the ledger and every session. The sessions are open as long as what is returned.
fn preserve(ledger: &Ledger, sessions: &[Open]) -> Result<Vec<Session>> {
    let device = Device::open()?;
    let mut kept = Vec::new();
    let mut ledger = ledger.clone();
    for (entry, open) in ledger.entries.iter_mut().zip(sessions) {
        let session = device.create_session(&entry.name)?;
        for (token, held) in (0..).zip(&open.held) {
            session
                .preserve(&held.file, token)
                .with_context(|| format!("file {token} of {}", entry.name))?;
        }
        entry.items = open.held.iter().map(|held| held.item.touched()).collect();
        kept.push(session);
    }
    kept.push(ledger.preserve(&device)?);
    Ok(kept)
}

/// A reboot that is refused, as one file cannot be frozen.
fn refused(cmdline: &Cmdline) -> Result<()> {
    let stuck = driver::a_file_that_cannot_be_frozen()?;
    kexec::load(cmdline)?;
    let stayed = kexec::jump();
    let errno = stayed
        .as_ref()
        .err()
        .and_then(|error| error.downcast_ref::<Errno>());
    ensure!(errno == Some(&Errno::INVAL), "the reboot gave {errno:?}");
    drop(stuck);
    Ok(())
}
