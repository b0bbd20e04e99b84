// SPDX-License-Identifier: GPL-2.0
//! The debug kernel's round: test_kho.ko in, out and in again, the kernel's selftest, a memfd update, a search for leaks in each generation.

use super::{selftests, splats, update};
use crate::cmdline::Cmdline;
use crate::{event, sys};
use anyhow::{Context, Result};
use std::fs::File;
use std::path::Path;

const MODULE: &str = "/tests/test_kho.ko";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let insert = || -> Result<()> {
        let module = File::open(MODULE).with_context(|| format!("cannot open {MODULE}"))?;
        sys::finit_module(&module).context("cannot insert test_kho.ko")
    };
    let module = Path::new(MODULE).exists();
    if module {
        insert()?;
    }
    if cmdline.generation() == 0 {
        if module {
            in_and_out(insert)?;
        }
        selftests::run("liveupdate", &[])?;
    }
    update::play_and(cmdline, splats::leaks)
}

/// The module is in; takes it out and puts it in again, for the kexec to come.
fn in_and_out(insert: impl Fn() -> Result<()>) -> Result<()> {
    sys::delete_module("test_kho").context("cannot remove test_kho.ko")?;
    insert()?;
    event::check("test_kho.ko goes in, out and in again", true, "");
    Ok(())
}
