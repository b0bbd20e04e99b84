// SPDX-License-Identifier: GPL-2.0
//! What the next kernel does with memory before it knows what is preserved: options of its command
//! line that would cost it, and allocators that do not ask.

use crate::cmdline::Cmdline;
use crate::{event, kexec};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Errno, Session};
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;

const SESSION: &str = "kept";
const PIECE: usize = 2 << 20;

/// Options that the machine could not take over with.
const REFUSED: [&str; 5] = [
    "mem=700M",
    "memmap=exactmap memmap=256M@1M",
    "memmap=512M$512M",
    "cma=512M@512M",
    "memtest=1",
];

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let bytes = cmdline.number("size", 0);
    match cmdline.generation() {
        0 => {
            let file = pieces(bytes, cmdline.flag("gaps"))?;
            let session = Device::open()?.create_session(SESSION)?;
            session.preserve(&file, 0)?;
            let line = cmdline.for_next();
            if cmdline.flag("refusals") {
                REFUSED.iter().for_each(|option| is_refused(option, &line));
            }
            let more = cmdline.get("next").unwrap_or_default().replace('+', " ");
            kexec::load_file("/boot/ours", &format!("{line} {more}"), 0)?;
            kexec::jump()
        }
        _ => {
            let arrived = Device::open()?.retrieve_session(SESSION);
            event::send("taken over", serde_json::json!({"ok": arrived.is_ok()}));
            if let Ok(session) = arrived {
                let file = File::from(session.retrieve(0)?);
                verify(&file, bytes, "as it arrived")?;
                // Whatever is free is used once, so that who shares a page shows.
                let free = crate::machine::free_bytes()? / 2;
                drop(pieces(free, false)?);
                verify(&file, bytes, "after all else was used")?;
                session.finish()?;
            }
            works()
        }
    }
}

/// What is preserved now can be given up again.
fn works() -> Result<()> {
    let file = pieces(PIECE as u64, false)?;
    let session: Session = Device::open()?.create_session("another")?;
    session.preserve(&file, 0)?;
    event::check("the kernel can preserve memory again", true, "");
    Ok(())
}

fn is_refused(option: &str, line: &str) {
    let loaded = kexec::load_file("/boot/ours", &format!("{line} {option}"), 0);
    let errno = loaded.as_ref().err().and_then(|err| {
        let known = err.downcast_ref::<Errno>().copied();
        let io = || err.downcast_ref::<std::io::Error>()?.raw_os_error();
        known.or_else(|| io().map(Errno::from_raw_os_error))
    });
    event::check(
        &format!("{option} is refused when the image is loaded"),
        errno == Some(Errno::PROTONOSUPPORT),
        format!("{loaded:?}"),
    );
}

/// A memfd of pieces of 2 MiB; with gaps, as much memory is freed again between them.
fn pieces(bytes: u64, gaps: bool) -> Result<File> {
    let file = File::from(memfd_create("pieces", MemfdFlags::CLOEXEC)?);
    let other = File::from(memfd_create("gaps", MemfdFlags::CLOEXEC)?);
    ftruncate(&file, bytes)?;
    ftruncate(&other, bytes)?;
    let mut piece = vec![0x5a; PIECE];
    for at in (0..bytes).step_by(PIECE) {
        stamp(&mut piece, at);
        let len = PIECE.min(usize::try_from(bytes - at)?);
        file.write_all_at(&piece[..len], at)
            .context("no memory for a piece")?;
        if gaps {
            other
                .write_all_at(&piece[..len], at)
                .context("no memory for a gap")?;
        }
    }
    Ok(file)
}

/// Every page says where it is.
fn stamp(piece: &mut [u8], at: u64) {
    for (page, number) in piece.chunks_exact_mut(4096).zip(at / 4096..) {
        page[..8].copy_from_slice(&number.to_ne_bytes());
    }
}

fn verify(file: &File, bytes: u64, when: &str) -> Result<()> {
    let (mut expected, mut found) = (vec![0x5a; PIECE], vec![0; PIECE]);
    let mut wrong = 0;
    for at in (0..bytes).step_by(PIECE) {
        stamp(&mut expected, at);
        let len = PIECE.min(usize::try_from(bytes - at)?);
        file.read_exact_at(&mut found[..len], at)?;
        wrong += usize::from(found[..len] != expected[..len]);
    }
    let detail = format!("{wrong} pieces of 2 MiB are not");
    event::check(&format!("the memfd is whole {when}"), wrong == 0, detail);
    Ok(())
}
