// SPDX-License-Identifier: GPL-2.0
//! A handover the old kernel was told to corrupt: the new one must get to userspace, prove that no
//! memory has two owners, and update again.

use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::sys::PAGE;
use crate::{event, kexec, machine};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Session};
use serde_json::json;
use std::fs::File;
use std::path::Path;

const HOOK: &str = "/sys/kernel/debug/kho/out/corrupt";
/// Enough for the list of pages to need several chunks.
const WISH: Wish = Wish {
    bytes: 16 << 20,
    depth: Depth::Full,
    huge: false,
    node: None,
};
const FIRST_SEED: u64 = 11;
const SECOND_SEED: u64 = 12;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    match cmdline.generation() {
        0 => {
            let _session = preserved("first", FIRST_SEED)?;
            arm(cmdline)?;
            kexec::load(cmdline)?;
            kexec::jump()
        }
        1 => {
            look_at_the_first()?;
            stress(60)?;
            let _session = preserve_the_second()?;
            kexec::load(cmdline)?;
            kexec::jump()
        }
        _ => look_at_the_second(),
    }
}

/// Tells this kernel how to spoil the handover.
pub(super) fn arm(cmdline: &Cmdline) -> Result<()> {
    let damage = cmdline.get("damage").context("lu.damage= is missing")?;
    std::fs::write(HOOK, damage).with_context(|| format!("{HOOK} does not take \"{damage}\""))
}

/// What a clean update after the spoilt one carries.
pub(super) fn preserve_the_second() -> Result<Session> {
    preserved("second", SECOND_SEED)
}

pub(super) fn look_at_the_second() -> Result<()> {
    let session = Device::open()?.retrieve_session("second")?;
    let trouble = memory::verify(&session.retrieve(0)?.into(), &WISH, SECOND_SEED)?;
    event::send(
        "intact",
        json!({"ok": trouble.is_none(), "bytes": WISH.bytes,
               "detail": trouble.unwrap_or_default()}),
    );
    Ok(session.finish()?)
}

fn preserved(name: &str, seed: u64) -> Result<Session> {
    let session = Device::open()?.create_session(name)?;
    session.preserve(memory::filled(&WISH, seed)?, 0)?;
    Ok(session)
}

/// Whether the handover was taken, and if so what became of the memfd: intact, refused, or wrong.
fn look_at_the_first() -> Result<()> {
    let taken = Path::new("/sys/kernel/debug/kho/in/fdt").exists();
    let fate = match Device::open()?.retrieve_session("first") {
        Err(error) => format!("no session ({error})"),
        Ok(session) => {
            let fate = match session.retrieve(0) {
                Err(error) => format!("not retrieved ({error})"),
                Ok(file) => judge(&file.into()),
            };
            drop(session);
            fate
        }
    };
    event::send("first", json!({"taken": taken, "fate": fate}));
    Ok(())
}

fn judge(file: &File) -> String {
    match memory::verify(file, &WISH, FIRST_SEED) {
        Ok(None) => "intact".to_owned(),
        Ok(Some(trouble)) => format!("wrong: {trouble}"),
        Err(error) => format!("unreadable: {error:#}"),
    }
}

/// Writes most of free memory and reads it back: a page with two owners would show.
pub(super) fn stress(percent: usize) -> Result<()> {
    let free = usize::try_from(machine::free_bytes()?)?;
    let wish = Wish {
        bytes: free / 100 * percent / PAGE * PAGE,
        ..WISH
    };
    let file = memory::filled(&wish, FIRST_SEED ^ SECOND_SEED)?;
    let trouble = memory::verify(&file, &wish, FIRST_SEED ^ SECOND_SEED)?;
    event::check(
        "memory keeps what is written to it",
        trouble.is_none(),
        trouble.unwrap_or_else(|| format!("{} MiB", wish.bytes >> 20)),
    );
    Ok(())
}
