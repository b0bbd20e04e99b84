// SPDX-License-Identifier: GPL-2.0
//! Every allocation of preserving a memfd fails once, by the kernel's own fault injection; each failure is undone, and then it works.

use super::splats;
use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::{event, kexec};
use anyhow::{bail, Context, Result};
use liveupdate_uapi::Device;
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
/// More allocations than preserving such a file takes.
const MOST: u64 = 10_000;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    if cmdline.generation() > 0 {
        let session = Device::open()?.retrieve_session("faults")?;
        let trouble = memory::verify(&session.retrieve(0)?.into(), &WISH, SEED)?;
        event::send(
            "intact",
            json!({"ok": trouble.is_none(), "bytes": WISH.bytes,
                   "detail": trouble.unwrap_or_default()}),
        );
        session.finish()?;
        return splats::leaks();
    }
    let file = memory::filled(&WISH, SEED)?;
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
    fail_each(&file)?;
    splats::leaks()?;
    let session = Device::open()?.create_session("faults")?;
    session.preserve(&file, 0)?;
    kexec::load(cmdline)?;
    kexec::jump()
}

/// Preserves and gives up, again and again, with a later allocation failing each time.
fn fail_each(file: &File) -> Result<()> {
    let countdown = Countdown::open()?;
    let (mut failed, mut survived) = (0u64, 0u64);
    for nth in 1..MOST {
        let session = Device::open()?.create_session("faults")?;
        countdown.arm(nth)?;
        let preserved = session.preserve(file, 0);
        let hit = countdown.disarm()?;
        match (&preserved, hit) {
            (Ok(()), false) => {
                // No allocation is left that could fail.
                drop(session);
                event::check(
                    "each allocation of preserving a memfd failed once",
                    failed > 0,
                    format!("{failed} failures undone, {survived} made no difference"),
                );
                return Ok(());
            }
            (Ok(()), true) => survived += 1,
            (Err(_), true) => {
                failed += 1;
                session
                    .preserve(file, 0)
                    .with_context(|| format!("after failure {nth} was undone"))?;
            }
            (Err(error), false) => bail!("it fails without a fault: {error:#}"),
        }
        drop(session);
    }
    bail!("there is no end to its allocations")
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
