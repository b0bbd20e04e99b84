// SPDX-License-Identifier: GPL-2.0
//! An update that is called off twice, while the kernel has a million preserved objects, which
//! change all the time.

use super::driver;
use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::{event, kexec, machine, sys};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Errno};
use serde_json::json;
use std::fs::File;

const SESSION: &str = "objects";
const WISH: Wish = Wish {
    bytes: 16 << 20,
    depth: Depth::Full,
    huge: false,
    node: None,
};
const SEED: u64 = 11;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let device = Device::open()?;
    if cmdline.generation() > 0 {
        let session = device.retrieve_session(SESSION)?;
        let trouble = memory::verify(&File::from(session.retrieve(0)?), &WISH, SEED)?;
        event::send(
            "intact",
            json!({"ok": trouble.is_none(), "bytes": WISH.bytes,
                   "detail": trouble.unwrap_or_default()}),
        );
        session.finish()?;
        return change();
    }
    let file = memory::filled(&WISH, SEED)?;
    let session = device.create_session(SESSION)?;
    session.preserve(&file, 0)?;
    drop(device);
    change()?;

    // Called off by reboot(2): one file cannot be frozen.
    let stuck = driver::a_file_that_cannot_be_frozen()?;
    kexec::load(cmdline)?;
    change().context("with an image loaded")?;
    let stayed = kexec::jump();
    let errno = stayed.as_ref().err();
    let errno = errno.and_then(|error| error.downcast_ref::<Errno>());
    event::check(
        "reboot(2) is refused by a file that cannot be frozen",
        errno == Some(&Errno::INVAL),
        format!("{errno:?}"),
    );
    change().context("after a refused reboot")?;
    drop(stuck);

    // Called off by whoever loaded the image.
    kexec::load_file("/boot/ours", "", sys::KEXEC_FILE_UNLOAD)?;
    let nothing = kexec::jump();
    event::check(
        "there is nothing to reboot to once the image is unloaded",
        nothing.is_err(),
        format!("{:?}", nothing.err()),
    );
    change().context("after the image is unloaded")?;

    kexec::load(cmdline)?;
    change().context("with an image loaded again")?;
    let _session = session;
    kexec::jump()
}

/// Has the kernel verify all objects, free a third of them, and make them again.
fn change() -> Result<()> {
    machine::switch("/sys/module/test_objects/parameters/change", "1")
}
