// SPDX-License-Identifier: GPL-2.0
//! Memfds that are preserved and given up again before any kexec: each is then what it was, and can
//! do what it could.

use crate::memory::Wish;
use crate::pattern::Depth;
use crate::scenario::ioctls::resizable;
use crate::scenario::memfd::cases::{self, Case, Needs};
use crate::scenario::memfd::errors;
use crate::{event, machine, memory};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Session};
use std::fs::File;
use std::path::Path;

const LARGE: Wish = Wish {
    bytes: 1 << 30,
    depth: Depth::Touch,
    huge: false,
    node: None,
};
const SEED: u64 = 7;
const HUGE_BYTES: u64 = 16 << 20;
/// Files in one session, of a page each.
const MANY: u64 = 500;

pub fn play(device: &Device) -> Result<()> {
    errors::harmless(device)?;
    for case in cases::ALL {
        each(device, case).with_context(|| case.name.to_owned())?;
    }
    huge(device)?;
    large(device)?;
    many(device)
}

/// Why a case cannot be tried here.
fn missing(needs: Needs) -> Result<Option<&'static str>> {
    const ROOM: u64 = 64 << 20;
    Ok(match needs {
        Needs::Swap if machine::memory_figure("/proc/meminfo", "SwapFree")? < ROOM => {
            Some("there are no 64 MiB of free swap space")
        }
        Needs::HugePages if !Path::new("/sys/kernel/mm/transparent_hugepage").exists() => {
            Some("this kernel has no transparent huge pages")
        }
        _ => None,
    })
}

fn each(device: &Device, case: &Case) -> Result<()> {
    let name = format!("preserved and given up: {}", case.name);
    if let Some(why) = missing(case.needs)? {
        event::skip(&name, why);
        return Ok(());
    }
    let file = case.make()?;
    let session = device.create_session("kselftest/each")?;
    session.preserve(&file, 1)?;
    (case.later)(&file)?;
    let preserved = case.differs(&file)?;
    drop(session);
    let trouble = preserved.or(case.differs(&file)?);
    event::check(&name, trouble.is_none(), trouble.unwrap_or_default());
    Ok(())
}

fn huge(device: &Device) -> Result<()> {
    let name = "preserved and given up: 16 MiB of huge pages";
    if let Some(why) = missing(Needs::HugePages)? {
        event::skip(name, why);
        return Ok(());
    }
    // A machine whose memory is in pieces may have none.
    match cases::filled_huge(HUGE_BYTES, HUGE_BYTES) {
        Ok(file) => given_up(device, name, &file, || {
            let place = cases::damage(&file, HUGE_BYTES, HUGE_BYTES)?;
            Ok(place.map(|place| format!("byte {place} is wrong")))
        }),
        Err(error) => {
            event::skip(name, &error.to_string());
            Ok(())
        }
    }
}

fn large(device: &Device) -> Result<()> {
    const NEED: u64 = LARGE.bytes as u64 / 2 * 3;
    let name = "preserved and given up: 1 GiB";
    let free = machine::memory_figure("/proc/meminfo", "MemAvailable")?;
    if free < NEED {
        let why = format!("{} of {} MiB are available", free >> 20, NEED >> 20);
        event::skip(name, &why);
        return Ok(());
    }
    let file = memory::filled(&LARGE, SEED)?;
    given_up(device, name, &file, || memory::verify(&file, &LARGE, SEED))
}

/// Whole after a session was made, had it, and was closed. `damage` says what is not.
fn given_up(
    device: &Device,
    name: &str,
    file: &File,
    damage: impl FnOnce() -> Result<Option<String>>,
) -> Result<()> {
    let session = device.create_session("kselftest/large")?;
    session.preserve(file, 1)?;
    let fixed = !resizable(file);
    drop(session);
    let trouble = match fixed && resizable(file) {
        true => damage()?,
        false => Some("it could change its size while it was preserved, or cannot now".to_owned()),
    };
    event::check(name, trouble.is_none(), trouble.unwrap_or_default());
    Ok(())
}

/// Many files in one session, one file each in many sessions.
fn many(device: &Device) -> Result<()> {
    let files: Vec<File> = (0..MANY).map(cases::one_of_many).collect::<Result<_>>()?;
    let whole = |files: &[File]| -> Result<bool> {
        for (file, number) in files.iter().zip(0..) {
            if cases::damage(file, number, 4096)?.is_some() || !resizable(file) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let session = device.create_session("kselftest/many")?;
    for (file, token) in files.iter().zip(0..) {
        session.preserve(file, token)?;
    }
    drop(session);
    event::check(
        &format!("preserved and given up: {MANY} files of a session"),
        whole(&files)?,
        "",
    );
    let some = &files[..200];
    let sessions: Vec<Session> = some
        .iter()
        .zip(0..)
        .map(|(file, number)| {
            let session = device.create_session(format!("kselftest/many/{number}"))?;
            session.preserve(file, u64::MAX)?;
            Ok(session)
        })
        .collect::<Result<_>>()?;
    drop(sessions);
    event::check(
        &format!(
            "preserved and given up: a file each of {} sessions",
            some.len()
        ),
        whole(some)?,
        "",
    );
    Ok(())
}
