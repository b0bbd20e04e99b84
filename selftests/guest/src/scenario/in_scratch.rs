// SPDX-License-Identifier: GPL-2.0
//! A memfd so large that pages of it lie in scratch, which is lent to whoever's pages can be moved.
//! Nothing may be preserved there: the next kernel boots in it. So they have to move when the memfd
//! is preserved.

use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::{event, kexec};
use anyhow::{ensure, Context, Result};
use liveupdate_uapi::Device;
use std::fs::{self, File};
use std::ops::Range;

const SESSION: &str = "in-scratch";
const WISH: Wish = Wish {
    bytes: 640 << 20,
    depth: Depth::Full,
    huge: false,
    node: None,
};
const SEED: u64 = 3;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let device = Device::open()?;
    if cmdline.generation() > 0 {
        let session = device.retrieve_session(SESSION)?;
        let file = File::from(session.retrieve(0)?);
        let trouble = memory::verify(&file, &WISH, SEED)?;
        event::check(
            "all of it came back",
            trouble.is_none(),
            trouble.unwrap_or_default(),
        );
        session.finish()?;
        return Ok(());
    }
    let scratch = scratch()?;
    let file = memory::filled(&WISH, SEED)?;
    let before = inside(&file, &scratch)?;
    event::check(
        "pages of the memfd lie in scratch",
        before > 0,
        format!("{before} of {}", WISH.bytes / 4096),
    );
    let session = device.create_session(SESSION)?;
    session.preserve(&file, 0)?;
    let after = inside(&file, &scratch)?;
    event::check(
        "none of them does once it is preserved",
        after == 0,
        format!("{after} are left"),
    );
    let trouble = memory::verify(&file, &WISH, SEED)?;
    event::check(
        "moving them has changed nothing",
        trouble.is_none(),
        trouble.unwrap_or_default(),
    );
    kexec::load(cmdline)?;
    kexec::jump()
}

/// The frames of scratch.
fn scratch() -> Result<Vec<Range<u64>>> {
    let numbers = |file: &str| -> Result<Vec<u64>> {
        let path = format!("/sys/kernel/debug/kho/out/{file}");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let number = |line: &str| u64::from_str_radix(line.trim().trim_start_matches("0x"), 16);
        Ok(text.lines().map(number).collect::<Result<_, _>>()?)
    };
    let (starts, lengths) = (numbers("scratch_phys")?, numbers("scratch_len")?);
    ensure!(
        !starts.is_empty() && starts.len() == lengths.len(),
        "debugfs shows no scratch"
    );
    let areas = starts.into_iter().zip(lengths);
    Ok(areas
        .map(|(start, length)| start / 4096..(start + length) / 4096)
        .collect())
}

/// How many pages of a file lie in these frames.
fn inside(file: &File, frames: &[Range<u64>]) -> Result<usize> {
    let all = memory::frames(file, WISH.bytes)?;
    let within = |frame: &&u64| frames.iter().any(|range| range.contains(frame));
    Ok(all.iter().filter(within).count())
}
