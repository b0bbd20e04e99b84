// SPDX-License-Identifier: GPL-2.0
//! The demo, through luoctl: a file and a `reserve_mem` region go to the next kernel.

use super::{luoctl, update};
use crate::cmdline::Cmdline;
use crate::{event, initramfs};
use anyhow::{bail, Context, Result};
use serde_json::json;
use std::fs::{self, File};
use std::process::Command;

const SESSION: &str = "demo";
const FILE: &str = "/tmp/data";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    super::luod::furnish()?;
    let bytes = cmdline.number("size", 0);
    let generation = cmdline.generation();
    if generation > 0 {
        event::phase("retrieve", || {
            luoctl::run(&["retrieve", SESSION, "--to", "/tmp"])
        })?;
        let mut trouble = None;
        event::phase("verify", || {
            trouble = luoctl::verify(FILE, bytes)?;
            Ok(())
        })?;
        event::send(
            "intact",
            json!({"ok": trouble.is_none(), "bytes": bytes, "detail": trouble.unwrap_or_default()}),
        );
        return update::region(generation);
    }
    event::phase("fill", || luoctl::make(FILE, bytes))?;
    update::region(generation)?;
    event::phase("preserve", || luoctl::run(&["preserve", SESSION, FILE]))?;
    fs::remove_file(FILE)?;
    drop(initramfs::pack()?);
    let chain = cmdline.chain();
    let next = chain.first().context("there is no next kernel")?;
    let kernel = format!("/boot/{next}");
    let line = cmdline.for_next();
    event::phase("load", || {
        let initrd = initramfs::ARCHIVE;
        luoctl::run(&["load", &kernel, "--initrd", initrd, "--cmdline", &line])
    })?;
    event::send("kexec", json!({}));
    let console = File::options().write(true).open("/dev/ttyS0")?;
    let code = Command::new("/bin/luoctl")
        .args(["update", "--without-luod"])
        .stdout(console)
        .status()?;
    bail!("luoctl came back: {code}")
}
