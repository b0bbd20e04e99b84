// SPDX-License-Identifier: GPL-2.0
//! From a kernel of one kind to one of another: sessions of every sort beside what the main job
//! carries, with memfds of every property that both kinds know.

use super::memfd::{cases, swap};
use super::sysfs::BESIDE;
use super::update;
use crate::cmdline::Cmdline;
use crate::{event, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Name, RetrieveSessionError, Session};

/// The session with a memfd a property, and the one nobody retrieves a file from.
const EACH: &str = "each";
const LEFT: &str = "left";
const LEFT_BYTES: u64 = 32 << 20;
/// Sessions with one file of a page.
const ONES: u64 = 20;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    swap::on()?;
    if cmdline.generation() > 0 {
        receive()?;
    }
    // The jump comes in there.
    let _sessions = match cmdline.chain().is_empty() {
        true => Vec::new(),
        false => make()?,
    };
    update::play(cmdline)
}

fn name(of: &str) -> String {
    format!("{BESIDE}{of}")
}

/// As long as a name can be.
fn longest() -> String {
    let mut long = name("long/");
    long.extend(std::iter::repeat_n('x', Name::MAX - long.len()));
    long
}

/// The properties that both kinds of kernel know.
fn known() -> impl DoubleEndedIterator<Item = (u64, &'static cases::Case)> {
    let cases = cases::ALL.iter().enumerate();
    cases
        .filter(|(_, case)| case.everywhere)
        .map(|(place, case)| (place as u64, case))
}

fn make() -> Result<Vec<Session>> {
    let device = Device::open()?;
    let each = device.create_session(name(EACH))?;
    for (token, case) in known() {
        let file = case.make().with_context(|| case.name.to_owned())?;
        each.preserve(&file, token)
            .with_context(|| case.name.to_owned())?;
        (case.later)(&file)?;
    }
    let empty = device.create_session(longest())?;
    let left = device.create_session(name(LEFT))?;
    left.preserve(cases::filled(LEFT_BYTES, LEFT_BYTES)?, u64::MAX)?;
    let mut sessions = vec![each, empty, left];
    for number in 0..ONES {
        let session = device.create_session(name(&number.to_string()))?;
        session.preserve(cases::one_of_many(number)?, number << 32)?;
        sessions.push(session);
    }
    Ok(sessions)
}

fn receive() -> Result<()> {
    let device = Device::open()?;
    let unknown = device.retrieve_session(name("none")).err();
    event::check(
        "a session that was not made has not arrived",
        unknown == Some(RetrieveSessionError::Unknown),
        format!("{unknown:?}"),
    );
    device.retrieve_session(longest())?.finish()?;

    let each = device.retrieve_session(name(EACH))?;
    let mut files = 0;
    for (token, case) in known().rev() {
        let trouble = match each.retrieve(token) {
            Ok(file) => case.trouble(&file.into())?,
            Err(error) => Some(error.to_string()),
        };
        files += 1;
        event::check(
            &format!("memfd with {}: came back as it was", case.name),
            trouble.is_none(),
            trouble.unwrap_or_default(),
        );
    }
    each.finish()?;

    let mut wrong = Vec::new();
    for number in (0..ONES).rev() {
        let session = device.retrieve_session(name(&number.to_string()))?;
        let file = session.retrieve(number << 32)?.into();
        if cases::damage(&file, number, 4096)?.is_some() {
            wrong.push(number);
        }
        session.finish()?;
    }
    files += ONES;
    event::check(
        "each of many sessions has its own memfd",
        wrong.is_empty(),
        format!("{} of {ONES} have another's: {wrong:?}", wrong.len()),
    );

    let left = device.retrieve_session(name(LEFT))?;
    let before = machine::free_bytes()?;
    left.finish()?;
    let back = machine::free_bytes()?.saturating_sub(before);
    event::check(
        "a session's FINISH frees what nobody retrieved",
        back >= LEFT_BYTES - (1 << 20),
        format!("{} of {} KiB", back >> 10, LEFT_BYTES >> 10),
    );
    event::value("sessions", ONES + 3);
    event::value("files", files);
    Ok(())
}
