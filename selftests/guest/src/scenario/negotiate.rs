// SPDX-License-Identifier: GPL-2.0
//! Kernels of different formats: images that do not read what is preserved are refused, others
//! decide what is written, and a file goes from a kernel that knows memfd 3 to one that does not,
//! and on to one that does.

use super::memfd::cases;
use crate::cmdline::Cmdline;
use crate::{event, formats, kexec, sys};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Errno, PreserveError, Session};
use rustix::fs::{fstat, ftruncate, memfd_create, MemfdFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;

const SESSION: &str = "negotiated";
/// A file with this size, of which so much is in it, at its beginning and at its end.
const BYTES: u64 = 64 << 20;
const PART: u64 = 1 << 20;
/// The images beside /boot, which the runner made.
const ONLY_2: &str = "/tests/only-memfd-2";
const NEITHER: &str = "/tests/no-memfd";
const CORRUPT: &str = "/tests/corrupt-catalogue";
const OLD: &str = "/tests/linux-6.1";
const MAINLINE: &str = "/tests/linux-7.3";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let next = cmdline.for_next();
    match cmdline.generation() {
        0 => {
            let file = sparse()?;
            let session = Device::open()?.create_session(SESSION)?;
            refusals(&session, &file, &next)?;
            kexec::load_file(ONLY_2, &format!("{next} liveupdate.hide=memfd:3"), 0)?;
            kexec::jump()
        }
        1 => {
            // The other version is hidden here, as its image said.
            event::check(
                "this kernel knows version 2 alone",
                !formats::has("memfd", 3) && formats::has("memfd", 2),
                "",
            );
            arrived("memfd 2 readable")?;
            let (file, _) = retrieve()?;
            event::check(
                "the holes were filled for version 2",
                held(&file)? == BYTES,
                format!("{} bytes", held(&file)?),
            );
            let session = Device::open()?.create_session(SESSION)?;
            session.preserve(&file, 0)?;
            kexec::load_file("/boot/ours", &format!("{next} liveupdate.hide="), 0)?;
            kexec::jump()
        }
        _ => {
            arrived("memfd 2 readable, old")?;
            retrieve()?;
            Ok(())
        }
    }
}

fn arrived(line: &str) -> Result<()> {
    let shown = formats::shown("arrived_formats");
    event::check(
        &format!("arrived_formats says \"{line}\""),
        shown.lines().any(|shown| shown == line),
        shown.replace('\n', ", "),
    );
    Ok(())
}

fn sparse() -> Result<File> {
    let file = File::from(memfd_create("sparse", MemfdFlags::CLOEXEC)?);
    ftruncate(&file, BYTES)?;
    file.write_all_at(&cases::content(7, PART), 0)?;
    file.write_all_at(&cases::content(8, PART), BYTES - PART)?;
    Ok(file)
}

/// Bytes that a file has in memory.
fn held(file: &File) -> Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_blocks)? * 512)
}

fn retrieve() -> Result<(File, Session)> {
    let session = Device::open()?.retrieve_session(SESSION)?;
    let file = File::from(session.retrieve(0)?);
    let mut parts = [vec![0; PART as usize], vec![0; PART as usize]];
    file.read_exact_at(&mut parts[0], 0)?;
    file.read_exact_at(&mut parts[1], BYTES - PART)?;
    let whole = parts[0] == cases::content(7, PART) && parts[1] == cases::content(8, PART);
    event::check("the file came back as it was", whole, "");
    session.finish()?;
    let outgoing = Device::open()?.create_session("unused")?;
    Ok((file, outgoing))
}

fn errno(result: &Result<()>) -> Option<Errno> {
    let err = result.as_ref().err()?;
    let io = || err.downcast_ref::<std::io::Error>()?.raw_os_error();
    let known = err.downcast_ref::<Errno>().copied();
    known.or_else(|| io().map(Errno::from_raw_os_error))
}

fn is_refused(what: &str, result: &Result<()>) {
    let found = errno(result);
    event::check(
        &format!("{what} is refused"),
        found == Some(Errno::PROTONOSUPPORT),
        format!("{result:?}"),
    );
}

fn users(expected: [u64; 2], when: &str) -> Result<()> {
    let found = [
        formats::get("memfd", 2, "users")?,
        formats::get("memfd", 3, "users")?,
    ];
    event::check(
        &format!("{when}: {expected:?} files are preserved as memfd 2 and 3"),
        found == expected,
        format!("{found:?}"),
    );
    Ok(())
}

fn is_loaded(what: &str, expected: &str) {
    let shown = formats::shown("loaded_image");
    event::check(
        &format!("{what}: loaded_image says \"{expected}\""),
        shown.starts_with(expected),
        shown.lines().next().unwrap_or_default(),
    );
}

/// All that must be refused, and what is done for images that are not. In the end none is loaded
/// that matters.
fn refusals(session: &Session, file: &File, next: &str) -> Result<()> {
    let load = |image: &str| kexec::load_file(image, next, 0);
    for (version, which) in [
        (2, "read"),
        (2, "write"),
        (3, "read"),
        (3, "write"),
        (3, "enable_write"),
    ] {
        let shown = formats::get("memfd", version, which)?;
        event::check(
            &format!("memfd {version} has {which}"),
            shown == 1,
            shown.to_string(),
        );
    }
    is_loaded("at first", "none");

    // Nothing is preserved: it may be booted, and nothing be handed over to it.
    load(OLD).context("an old kernel is refused though nothing is preserved")?;
    is_loaded("an old kernel", "unable: 6.1");
    let preserved = session.preserve(file, 0);
    event::check(
        "nothing is preserved for an old kernel",
        preserved == Err(PreserveError::NotReadNext),
        format!("{preserved:?}"),
    );
    load("/boot/ours")?;
    is_loaded("ours", "ready: 7.3");
    let before = held(file)?;
    session.preserve(file, 0)?;
    users([0, 1], "with our own kernel loaded")?;
    event::check(
        "preserving takes no memory for holes",
        held(file)? == before,
        format!("{} and {before} bytes", held(file)?),
    );

    is_refused("an image without memfd", &load(NEITHER));
    is_refused("an image with a corrupt catalogue", &load(CORRUPT));
    is_refused("an image of an unknown release", &load(OLD));
    let off = format!("{next} liveupdate=off");
    is_refused(
        "an image with liveupdate=off",
        &kexec::load_file("/boot/ours", &off, 0),
    );
    let off = format!("{next} kho=0");
    is_refused(
        "an image with kho=0",
        &kexec::load_file("/boot/ours", &off, 0),
    );
    is_loaded("after refusals", "ready: 7.3");
    users([0, 1], "after refusals")?;

    load(ONLY_2)?;
    users([1, 0], "with an image that reads version 2 alone")?;
    load("/boot/ours")?;
    users([0, 1], "with an image that reads both")?;
    load(MAINLINE)?;
    users([1, 0], "with an image that is known by its release")?;
    load("/boot/ours")?;

    formats::enable("memfd", 3, "0")?;
    users([1, 0], "with version 3 turned off")?;
    let last = formats::enable("memfd", 2, "0")
        .err()
        .and_then(|e| e.raw_os_error());
    event::check(
        "the last version cannot be turned off",
        last == Some(libc::EBUSY),
        format!("{last:?}"),
    );
    let odd = formats::enable("memfd", 2, "perhaps")
        .err()
        .and_then(|e| e.raw_os_error());
    event::check(
        "what is no truth value is EINVAL",
        odd == Some(libc::EINVAL),
        format!("{odd:?}"),
    );
    let fixed = formats::enable("kho", 4, "0")
        .err()
        .and_then(|e| e.raw_os_error());
    event::check(
        "a format without a choice is ENODEV",
        fixed == Some(libc::ENODEV),
        format!("{fixed:?}"),
    );
    formats::enable("memfd", 3, "1")?;
    users([0, 1], "with version 3 turned on again")?;

    sys::kexec_load().context("the old call")?;
    is_loaded("the old call", "unable: loaded by kexec_load");
    let other = cases::filled(3, 4096)?;
    let preserved = session.preserve(&other, 1);
    event::check(
        "nothing is preserved for an image of the old call",
        preserved == Err(PreserveError::NotReadNext),
        format!("{preserved:?}"),
    );
    is_refused("a reboot to an image of the old call", &kexec::jump());
    event::check(
        "the system runs on",
        formats::shown("state").trim() == "operating"
            && formats::shown("last_error").contains("reboot refused"),
        formats::shown("last_error").trim().to_owned(),
    );
    Ok(())
}
