// SPDX-License-Identifier: GPL-2.0
//! Every allocation of each ioctl of live update fails once, by the kernel's own fault injection;
//! each failure changes nothing, and then it works.

use super::splats;
use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::{event, kexec};
use anyhow::{bail, ensure, Context, Result};
use liveupdate_uapi::{raw, Device, Session};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;

const NTH: &str = "/proc/thread-self/fail-nth";
const WISH: Wish = Wish {
    bytes: 8 << 20,
    depth: Depth::Full,
    huge: false,
    node: None,
};
const SEED: u64 = 21;
/// More allocations than any of them makes.
const MOST: u64 = 10_000;

/// Small memfds to retrieve, one an attempt: an attempt that failed may be final.
const SMALL: Wish = Wish {
    bytes: 64 << 10,
    ..WISH
};
const ATTEMPTS: u64 = 200;
/// Sessions for what ends a session.
const SESSIONS: u64 = 100;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    if cmdline.generation() > 0 {
        return receive();
    }
    let file = memory::filled(&WISH, SEED)?;
    inject()?;
    create()?;
    preserve(&file)?;
    close_outgoing(&file)?;
    splats::leaks()?;
    let device = Device::open()?;
    let session = device.create_session("faults")?;
    session.preserve(&file, 0)?;
    let _more = hand_over_more(&device)?;
    kexec::load(cmdline)?;
    kexec::jump()
}

fn inject() -> Result<()> {
    for (path, value) in [
        ("failslab/ignore-gfp-wait", "N"),
        ("fail_page_alloc/ignore-gfp-wait", "N"),
        ("fail_page_alloc/min-order", "0"),
        ("failslab/verbose", "0"),
        ("fail_page_alloc/verbose", "0"),
    ] {
        let path = format!("/sys/kernel/debug/{path}");
        std::fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// What the next kernel retrieves and finishes while memory fails.
fn hand_over_more(device: &Device) -> Result<Vec<Session>> {
    let many = device.create_session("many")?;
    for token in 0..ATTEMPTS {
        many.preserve(memory::filled(&SMALL, token)?, token)?;
    }
    let mut sessions = vec![many];
    for number in 0..SESSIONS {
        let session = device.create_session(format!("one-{number}"))?;
        session.preserve(memory::filled(&SMALL, number)?, number)?;
        sessions.push(session);
    }
    Ok(sessions)
}

fn receive() -> Result<()> {
    let device = Device::open()?;
    inject()?;
    let mut names = (0..SESSIONS).map(|number| (number, format!("one-{number}")));
    retrieve_session(&device, &mut names)?;
    retrieve_files(&device)?;
    finish(&device, &mut names)?;
    close_incoming(&device, &mut names)?;
    for (_, name) in names {
        device.retrieve_session(&name)?.finish()?;
    }
    let session = device.retrieve_session("faults")?;
    let trouble = memory::verify(&session.retrieve(0)?.into(), &WISH, SEED)?;
    event::send(
        "intact",
        json!({"ok": trouble.is_none(), "bytes": WISH.bytes,
               "detail": trouble.unwrap_or_default()}),
    );
    session.finish()?;
    splats::leaks()
}

/// A session that could not be made is not there: its name is free.
fn create() -> Result<()> {
    let device = Device::open()?;
    each("CREATE_SESSION", |fault| {
        match fault.during(|| Ok(device.create_session("faults")?))? {
            Ok(session) => drop(session),
            Err(_) => drop(device.create_session("faults")?),
        }
        Ok(())
    })
}

/// A file that could not be preserved is not: the same session, and then another, takes it.
fn preserve(file: &File) -> Result<()> {
    let device = Device::open()?;
    each("PRESERVE_FD", |fault| {
        let session = device.create_session("faults")?;
        if fault.during(|| Ok(session.preserve(file, 0)?))?.is_err() {
            session.preserve(file, 0)?;
        }
        Ok(())
    })
}

/// Closing cannot fail: whatever memory there is, the name is free and the file can be preserved
/// again.
fn close_outgoing(file: &File) -> Result<()> {
    let device = Device::open()?;
    each("close of an outgoing session", |fault| {
        let session = device.create_session("faults")?;
        session.preserve(file, 0)?;
        fault.during(|| {
            drop(session);
            Ok(())
        })??;
        Ok(device.create_session("faults")?.preserve(file, 0)?)
    })
}

/// A session that could not be retrieved can be, later.
fn retrieve_session(
    device: &Device,
    names: &mut impl Iterator<Item = (u64, String)>,
) -> Result<()> {
    let mut next = || names.next().context("there are too few sessions");
    each("RETRIEVE_SESSION", |fault| {
        let (number, name) = next()?;
        let session = match fault.during(|| Ok(device.retrieve_session(&name)?))? {
            Ok(session) => session,
            Err(_) => device.retrieve_session(&name)?,
        };
        holds(&session.retrieve(number)?.into(), number)?;
        Ok(session.finish()?)
    })
}

/// A memfd that could not be retrieved is lost or not, as its handler has it; what is retrieved is
/// whole.
fn retrieve_files(device: &Device) -> Result<()> {
    let session = device.retrieve_session("many")?;
    let mut tokens = 0..ATTEMPTS;
    let (mut lost, mut again) = (0, 0);
    each("RETRIEVE_FD", |fault| {
        let token = tokens.next().context("there are too few memfds")?;
        match fault.during(|| Ok(session.retrieve(token)?))? {
            Ok(file) => holds(&file.into(), token),
            Err(_) => match session.retrieve(token) {
                Ok(file) => {
                    again += 1;
                    holds(&file.into(), token)
                }
                Err(_) => {
                    lost += 1;
                    Ok(())
                }
            },
        }
    })?;
    event::value("memfds retrieved after a failure", again);
    event::value("memfds lost by a failure", lost);
    for token in tokens {
        holds(&session.retrieve(token)?.into(), token)?;
    }
    Ok(session.finish()?)
}

/// FINISH that failed can be done again, and until then the file can be retrieved.
fn finish(device: &Device, names: &mut impl Iterator<Item = (u64, String)>) -> Result<()> {
    let mut next = || names.next().context("there are too few sessions");
    each("FINISH", |fault| {
        let (number, name) = next()?;
        let session = device.retrieve_session(&name)?;
        // The session stays open.
        if fault.during(|| Ok(raw::finish(&session)?))?.is_err() {
            holds(&session.retrieve(number)?.into(), number)?;
            raw::finish(&session)?;
        }
        ensure!(session.retrieve(number).is_err(), "it is not finished");
        Ok(())
    })
}

/// Closing finishes, whatever memory there is.
fn close_incoming(device: &Device, names: &mut impl Iterator<Item = (u64, String)>) -> Result<()> {
    let mut next = || names.next().context("there are too few sessions");
    each("close of an incoming session", |fault| {
        let (number, name) = next()?;
        let session = device.retrieve_session(&name)?;
        let file = File::from(session.retrieve(number)?);
        fault.during(|| {
            drop(session);
            Ok(())
        })??;
        ensure!(
            device.retrieve_session(&name).is_err(),
            "a closed session can be retrieved"
        );
        holds(&file, number)
    })
}

fn holds(file: &File, seed: u64) -> Result<()> {
    match memory::verify(file, &SMALL, seed)? {
        None => Ok(()),
        Some(trouble) => bail!("a memfd is damaged: {trouble}"),
    }
}

/// Plays `once` with a later allocation failing each time, until there is none left that could.
fn each(what: &str, mut once: impl FnMut(&mut Fault) -> Result<()>) -> Result<()> {
    let mut fault = Fault::open()?;
    let (mut failed, mut survived) = (0u64, 0u64);
    for nth in 1..MOST {
        fault.nth = nth;
        once(&mut fault).with_context(|| format!("{what}, with allocation {nth} failing"))?;
        match fault.last {
            Some((true, true)) => failed += 1,
            Some((true, false)) => survived += 1,
            Some((false, true)) => bail!("{what} fails without a fault"),
            Some((false, false)) => {
                event::check(
                    &format!("each allocation of {what} failed once"),
                    true,
                    format!("{failed} failures changed nothing, {survived} made no difference"),
                );
                event::value(&format!("{what} failures"), failed);
                return Ok(());
            }
            None => bail!("{what} was not tried"),
        }
    }
    bail!("there is no end to the allocations of {what}")
}

/// The n-th allocation of what is played fails.
struct Fault {
    countdown: Countdown,
    nth: u64,
    /// Whether the fault was injected, and whether what was played failed.
    last: Option<(bool, bool)>,
}

impl Fault {
    fn open() -> Result<Self> {
        Ok(Self {
            countdown: Countdown::open()?,
            nth: 0,
            last: None,
        })
    }

    /// Plays it. The outer result is about the injection, the inner one is its own.
    fn during<T>(&mut self, play: impl FnOnce() -> Result<T>) -> Result<Result<T>> {
        self.countdown.arm(self.nth)?;
        let result = play();
        let hit = self.countdown.disarm()?;
        self.last = Some((hit, result.is_err()));
        Ok(result)
    }
}

/// The countdown of this thread. Opened once: opening it allocates.
struct Countdown(File);

impl Countdown {
    fn open() -> Result<Self> {
        let file = File::options().read(true).write(true).open(NTH);
        file.map(Self)
            .with_context(|| format!("cannot open {NTH}; FAULT_INJECTION must be on"))
    }

    /// The n-th allocation from here on fails; 0 disarms.
    fn arm(&self, nth: u64) -> Result<()> {
        self.0
            .write_all_at(nth.to_string().as_bytes(), 0)
            .with_context(|| format!("cannot write {NTH}"))
    }

    /// Disarms; true if the fault was injected.
    fn disarm(&self) -> Result<bool> {
        let mut left = [0u8; 16];
        let read = self.0.read_at(&mut left, 0);
        self.arm(0)?;
        let count = read.with_context(|| format!("cannot read {NTH}"))?;
        Ok(left.get(..count).is_some_and(|text| text.starts_with(b"0")))
    }
}
