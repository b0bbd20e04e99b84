// SPDX-License-Identifier: GPL-2.0
//! Each property of a memfd that must live through an update, and through as many as there are
//! kernels to come; and each way to fail that must leave it usable.

pub mod cases;
mod charge;
pub mod errors;
pub mod swap;

use crate::cmdline::Cmdline;
use crate::{event, kexec, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, RetrievedSession, Session};
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
    let generation = cmdline.generation();
    if generation == 0 {
        return before(cmdline);
    }
    let device = Device::open()?;
    let wanted = device.retrieve_session(WANTED)?;
    let files = retrieve_each(&wanted, generation)?;
    let many = retrieve_many(&wanted)?;
    if generation == 1 {
        charge::check(&device.retrieve_session(CHARGED)?)?;
    }
    wanted.finish()?;
    if generation == 1 {
        unwanted(device.retrieve_session(UNWANTED)?)?;
    }
    if cmdline.chain().is_empty() {
        return Ok(());
    }
    for (case, file) in cases::ALL.iter().zip(&files) {
        case.again(file).with_context(|| case.name.to_owned())?;
    }
    let _session = preserve(&device, &files, &many)?;
    kexec::load(cmdline)?;
    kexec::jump()
}

fn before(cmdline: &Cmdline) -> Result<()> {
    let device = Device::open()?;
    errors::check(&device)?;

    let make = |case: &cases::Case| case.make().with_context(|| case.name.to_owned());
    let files: Vec<File> = cases::ALL.iter().map(make).collect::<Result<_>>()?;
    let many: Vec<File> = (0..cases::MANY)
        .map(cases::one_of_many)
        .collect::<Result<_>>()?;
    let _wanted = preserve(&device, &files, &many)?;
    for (case, file) in cases::ALL.iter().zip(&files) {
        (case.later)(file).with_context(|| case.name.to_owned())?;
    }
    let other = device.create_session(UNWANTED)?;
    let unwanted = cases::filled(5, UNWANTED_BYTES)?;
    other.preserve(&unwanted, 0)?;
    let charged = device.create_session(CHARGED)?;
    charge::preserve(&charged)?;
    kexec::load(cmdline)?;
    kexec::jump()
}

/// All files in one session.
fn preserve(device: &Device, files: &[File], many: &[File]) -> Result<Session> {
    let session = device.create_session(WANTED)?;
    for ((case, file), token) in cases::ALL.iter().zip(files).zip(0..) {
        session
            .preserve(file, token)
            .with_context(|| case.name.to_owned())?;
    }
    for (file, token) in many.iter().zip(cases::FIRST_OF_MANY..) {
        session.preserve(file, token)?;
    }
    Ok(session)
}

/// The places of all cases, in an order that is another one each time: backwards, as they were
/// preserved, every third.
fn order(generation: u64) -> Vec<usize> {
    let count = cases::ALL.len();
    match generation {
        1 => (0..count).rev().collect(),
        2 => (0..count).collect(),
        _ => (0..3).flat_map(|first| (first..count).step_by(3)).collect(),
    }
}

/// Gets each file and looks at it; gives them in their own order.
fn retrieve_each(session: &RetrievedSession, generation: u64) -> Result<Vec<File>> {
    let mut files: Vec<Option<File>> = cases::ALL.iter().map(|_| None).collect();
    for place in order(generation) {
        let case = &cases::ALL[place];
        let file = session.retrieve(place as u64).map(File::from);
        let trouble = match &file {
            Ok(file) => case.trouble(file)?,
            Err(error) => Some(error.to_string()),
        };
        event::check(
            &format!("{} came back as it was", case.name),
            trouble.is_none(),
            trouble.unwrap_or_default(),
        );
        files[place] = file.ok();
    }
    let all: Option<Vec<File>> = files.into_iter().collect();
    all.context("not all files came back")
}

fn retrieve_many(session: &RetrievedSession) -> Result<Vec<File>> {
    let mut wrong = 0;
    let mut files = Vec::new();
    for number in 0..cases::MANY {
        let file = File::from(session.retrieve(cases::FIRST_OF_MANY + number)?);
        wrong += u64::from(cases::damage(&file, number, 4096)?.is_some());
        files.push(file);
    }
    event::check(
        "each of many files is itself",
        wrong == 0,
        format!("{wrong} of {} are not", cases::MANY),
    );
    Ok(files)
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
pub fn errno<T, E: Copy + Into<std::io::Error>>(result: &Result<T, E>) -> i32 {
    let error = result.as_ref().err().map(|error| (*error).into());
    error.and_then(|error| error.raw_os_error()).unwrap_or(0)
}
