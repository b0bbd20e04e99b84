// SPDX-License-Identifier: GPL-2.0
//! Three sessions of which the old kernel was told to spoil one, or the table they stand in: the
//! new one must tell them apart.

use super::hostile;
use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::{self, Depth};
use crate::sys::PAGE;
use crate::{event, kexec, physical};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Session};
use serde_json::{json, Value};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const WISH: Wish = Wish {
    bytes: 256 << 10,
    depth: Depth::Full,
    huge: false,
    node: None,
};
/// The victim's memfd that is spoilt when one is.
const SPOILT: u64 = 1;
/// Pages of it that are looked at afterwards, wherever they have come to.
const SAMPLES: usize = 8;
/// How much of free memory is written meanwhile, in percent.
const STRESS: usize = 80;

/// The sessions, in the order they are made, with their memfds. The first and the third must come
/// to no harm.
fn sessions(cmdline: &Cmdline) -> [(&'static str, u64); 3] {
    [
        ("good-a", 2),
        ("victim", cmdline.number("victim", 3)),
        ("good-b", 1),
    ]
}

/// Tells one memfd from another.
fn seed(session: &str, token: u64) -> u64 {
    session
        .bytes()
        .fold(token + 1, |sum, byte| sum.rotate_left(7) ^ u64::from(byte))
}

pub fn play(cmdline: &Cmdline) -> Result<()> {
    match cmdline.generation() {
        0 => hand_over(cmdline),
        1 => receive(cmdline),
        _ => hostile::look_at_the_second(),
    }
}

fn hand_over(cmdline: &Cmdline) -> Result<()> {
    let device = Device::open()?;
    let made = sessions(cmdline)
        .into_iter()
        .map(|(name, files)| Ok((name, files, device.create_session(name)?)))
        .collect::<Result<Vec<_>>>()?;
    // So that the table of sessions needs another block, or somebody to be mistaken for.
    let _more = (0..cmdline.number("more", 0))
        .map(|number| Ok(device.create_session(format!("more-{number}"))?))
        .collect::<Result<Vec<_>>>()?;
    let mut kept = String::new();
    // The victim's last: its block is then the one that was made last.
    for (name, files, session) in made.iter().filter(|(name, ..)| *name != "victim") {
        preserve(session, name, *files)?;
    }
    for (name, files, session) in made.iter().filter(|(name, ..)| *name == "victim") {
        kept = preserve(session, name, *files)?;
    }
    hostile::arm(cmdline)?;
    let next = *cmdline.chain().first().context("lu.chain is empty")?;
    let words = format!("{} lu.kept={kept}", cmdline.for_next());
    kexec::load_as(next, &words, 0)?;
    kexec::jump()
}

/// Preserves memfds, and says where pages of the one that is spoilt lie: number and frame.
fn preserve(session: &Session, name: &str, files: u64) -> Result<String> {
    let mut samples = Vec::new();
    for token in 0..files {
        let file = memory::filled(&WISH, seed(name, token))?;
        if token == SPOILT {
            let frames = memory::frames(&file, WISH.bytes)?;
            let each = frames.iter().enumerate().step_by(frames.len() / SAMPLES);
            samples.extend(each.map(|(page, frame)| format!("{page}:{frame:x}")));
        }
        session.preserve(&file, token)?;
    }
    Ok(samples.join(","))
}

fn receive(cmdline: &Cmdline) -> Result<()> {
    let mut spoilt_is_lost = true;
    let report = match Device::open() {
        Err(error) => json!({"open": name_of(error)}),
        Ok(device) => {
            // The victim first: it must not spoil what is asked for later.
            let mut order = sessions(cmdline);
            order.swap(0, 1);
            let mut told = Vec::new();
            for (name, files) in order {
                let fate = ask(&device, name, files);
                if name == "victim" {
                    spoilt_is_lost = fate["files"][SPOILT as usize] != "intact";
                }
                told.push(fate);
            }
            let nobody = match device.retrieve_session("nobody") {
                Ok(_) => "found".to_owned(),
                Err(error) => name_of(error),
            };
            json!({"open": "ok", "nobody": nobody, "sessions": told})
        }
    };
    event::send("sessions", report);
    hostile::stress(STRESS)?;
    if spoilt_is_lost {
        look_at_the_kept(cmdline)?;
    }
    let _session = hostile::preserve_the_second()?;
    kexec::load(cmdline)?;
    kexec::jump()
}

/// What becomes of a session: of itself, of each memfd, of FINISH.
fn ask(device: &Device, name: &str, files: u64) -> Value {
    let session = match device.retrieve_session(name) {
        Err(error) => return json!({"name": name, "session": name_of(error)}),
        Ok(session) => session,
    };
    let fates: Vec<String> = (0..files)
        .map(|token| match session.retrieve(token) {
            Err(error) => name_of(error),
            Ok(file) => judge(&file.into(), seed(name, token)),
        })
        .collect();
    let finish = match session.finish() {
        Ok(()) => "ok".to_owned(),
        Err(failed) => name_of(failed.error),
    };
    json!({"name": name, "session": "ok", "files": fates, "finish": finish})
}

fn judge(file: &File, seed: u64) -> String {
    match memory::verify(file, &WISH, seed) {
        Ok(None) => "intact".to_owned(),
        Ok(Some(trouble)) => format!("wrong: {trouble}"),
        Err(error) => format!("unreadable: {error:#}"),
    }
}

/// Memory of a memfd that nobody can retrieve must have been given to nobody: it holds what it
/// held.
fn look_at_the_kept(cmdline: &Cmdline) -> Result<()> {
    let memory = physical::memory()?;
    let (mut held, mut all) = (0, 0);
    for sample in cmdline.get("kept").unwrap_or_default().split(',') {
        let (page, frame) = sample.split_once(':').context("lu.kept= is missing")?;
        let frame = u64::from_str_radix(frame, 16).context("lu.kept= has no frame")?;
        let mut bytes = [0u8; PAGE];
        memory.read_exact_at(&mut bytes, frame * PAGE as u64)?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
            .collect();
        all += 1;
        held += u64::from(pattern::holds(
            &words,
            seed("victim", SPOILT),
            page.parse()?,
            Depth::Full,
        ));
    }
    event::check(
        "the lost memfd's memory was given to nobody",
        held == all,
        format!("{held} of {all} pages are as they were"),
    );
    Ok(())
}

fn name_of(error: impl Into<io::Error>) -> String {
    let error = error.into();
    let name = match error.raw_os_error() {
        Some(libc::EBADMSG) => "EBADMSG",
        Some(libc::EBUSY) => "EBUSY",
        Some(libc::EINVAL) => "EINVAL",
        Some(libc::EIO) => "EIO",
        Some(libc::ENODATA) => "ENODATA",
        Some(libc::ENODEV) => "ENODEV",
        Some(libc::ENOENT) => "ENOENT",
        Some(libc::ENOMEM) => "ENOMEM",
        _ => return error.to_string(),
    };
    name.to_owned()
}
