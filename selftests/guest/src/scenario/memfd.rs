// SPDX-License-Identifier: GPL-2.0
//! Each property of a memfd that must live through an update, and each way to fail that must leave it usable.

pub mod cases;
mod charge;
mod errors;
pub mod swap;

use crate::cmdline::Cmdline;
use crate::{event, kexec, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, RetrievedSession};
use std::fs::File;

/// The session whose files are looked at one by one.
const WANTED: &str = "memfd-wanted";
/// The session that nobody retrieves from, and the size of its file.
const UNWANTED: &str = "memfd-unwanted";
const UNWANTED_BYTES: u64 = 64 << 20;
/// The session of the file that is charged to a cgroup.
const CHARGED: &str = "memfd-charged";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    swap::on()?;
    if cmdline.generation() == 0 {
        before(cmdline)
    } else {
        after()
    }
}

fn before(cmdline: &Cmdline) -> Result<()> {
    let device = Device::open()?;
    errors::check(&device)?;

    let wanted = device.create_session(WANTED)?;
    let mut files = Vec::new();
    for (case, token) in cases::ALL.iter().zip(0..) {
        let file = case.make().with_context(|| case.name.to_owned())?;
        wanted
            .preserve(&file, token)
            .with_context(|| case.name.to_owned())?;
        (case.later)(&file).with_context(|| case.name.to_owned())?;
        files.push(file);
    }
    let many: Vec<File> = (0..cases::MANY)
        .map(cases::one_of_many)
        .collect::<Result<_>>()?;
    for (file, token) in many.iter().zip(cases::FIRST_OF_MANY..) {
        wanted.preserve(file, token)?;
    }
    let other = device.create_session(UNWANTED)?;
    let unwanted = cases::filled(5, UNWANTED_BYTES)?;
    other.preserve(&unwanted, 0)?;
    let charged = device.create_session(CHARGED)?;
    let small = cases::filled(charge::SEED, charge::BYTES)?;
    charged.preserve(&small, charge::SMALL)?;
    let huge = cases::filled_huge(charge::SEED, charge::BYTES)?;
    charged.preserve(&huge, charge::HUGE)?;
    kexec::load(cmdline)?;
    kexec::jump()
}

fn after() -> Result<()> {
    let device = Device::open()?;
    let wanted = device.retrieve_session(WANTED)?;
    // Not in the order in which they were preserved.
    for (place, case) in cases::ALL.iter().enumerate().rev() {
        let trouble = match wanted.retrieve(place as u64) {
            Ok(file) => case.trouble(file.into())?,
            Err(error) => Some(error.to_string()),
        };
        event::check(
            &format!("{} came back as it was", case.name),
            trouble.is_none(),
            trouble.unwrap_or_default(),
        );
    }
    many(&wanted)?;
    charge::check(&device.retrieve_session(CHARGED)?)?;
    wanted.finish()?;
    unwanted(device.retrieve_session(UNWANTED)?)
}

fn many(session: &RetrievedSession) -> Result<()> {
    let mut wrong = 0;
    for number in 0..cases::MANY {
        let file = File::from(session.retrieve(cases::FIRST_OF_MANY + number)?);
        wrong += u64::from(cases::damage(&file, number, 4096)?.is_some());
    }
    event::check(
        "each of many files is itself",
        wrong == 0,
        format!("{wrong} of {} are not", cases::MANY),
    );
    Ok(())
}

/// Finishing without retrieving gives the memory back.
fn unwanted(session: RetrievedSession) -> Result<()> {
    let before = machine::free_bytes()?;
    session.finish()?;
    let back = machine::free_bytes()?.saturating_sub(before);
    event::check(
        "a file that nobody retrieved is free memory after FINISH",
        back >= UNWANTED_BYTES - (1 << 20),
        format!("{} of {} KiB", back >> 10, UNWANTED_BYTES >> 10),
    );
    Ok(())
}

/// The errno of a failed call; 0 if it did not fail.
fn errno<T, E: Copy + Into<std::io::Error>>(result: &Result<T, E>) -> i32 {
    let error = result.as_ref().err().map(|error| (*error).into());
    error.and_then(|error| error.raw_os_error()).unwrap_or(0)
}
