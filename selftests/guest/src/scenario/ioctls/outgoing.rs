// SPDX-License-Identifier: GPL-2.0
//! An outgoing session: PRESERVE_FD and GET_NAME, and what is not for it.

use super::table::{holds, resizable, verdict, with_full_table, Argument, Table, Watch};
use super::{ends, memfd};
use crate::scenario::luo_is_ours;
use crate::sys::At;
use anyhow::Result;
use liveupdate_uapi::raw::{FINISH, GET_NAME, PRESERVE_FD, RETRIEVE_FD};
use liveupdate_uapi::{Device, Errno, PreserveError};
use rustix::fs::{memfd_create, open, MemfdFlags, Mode, OFlags};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const NAME: &str = "outgoing";

pub fn play(table: &mut Table, device: &Device) -> Result<()> {
    let session = device.create_session(NAME)?;
    let file = memfd("content")?;
    let watch = Watch {
        session: Some((session.as_fd(), NAME)),
        memfd: Some(&file),
    };
    let on = session.as_fd();
    let fd = file.as_raw_fd();
    table.unknown(
        "outgoing session: unknown numbers, those of the device too",
        on,
        (0..=0xff).filter(|number| !(0x40..=0x43).contains(number)),
        watch,
    );
    for (what, number, argument) in [
        ("RETRIEVE_FD", RETRIEVE_FD, Argument::file(-1, 1)),
        ("FINISH", FINISH, Argument::finish(0)),
    ] {
        let case = format!("outgoing session: {what}");
        table.fails(&case, on, number, &argument, Errno::INVAL, watch);
    }
    table.shapes(
        "PRESERVE_FD",
        on,
        PRESERVE_FD,
        &Argument::file(fd, 1),
        watch,
    );
    table.shapes("GET_NAME", on, GET_NAME, &Argument::get_name(0), watch);
    let reserved = Argument::get_name(1);
    table.fails(
        "GET_NAME: reserved is 1",
        on,
        GET_NAME,
        &reserved,
        Errno::INVAL,
        watch,
    );
    let good = Argument::get_name(0);
    let trouble = table.failure(on, GET_NAME, &good, At::ReadOnly(0), Errno::FAULT, watch);
    verdict("GET_NAME: read-only memory", trouble);
    let longer = table.call(on, GET_NAME, &good.longer(8, 0), At::Offset(0));
    ends("GET_NAME: zeros behind are accepted", longer, Ok(()));

    descriptors(table, on, watch)?;
    twice(table, device, &session, &file)?;
    drop(session);
    holds(
        "close: the memfd can change its size again",
        resizable(&file),
    );
    read_only(table, device, &file)
}

/// Descriptors that are none, or of files that cannot be preserved.
fn descriptors(table: &mut Table, on: impl AsFd, watch: Watch<'_>) -> Result<()> {
    for (case, fd) in [
        ("-1", -1),
        ("that is closed", 100),
        ("far too high", i32::MAX),
    ] {
        let case = format!("PRESERVE_FD: a descriptor {case}");
        let argument = Argument::file(fd, 1);
        table.fails(&case, &on, PRESERVE_FD, &argument, Errno::BADF, watch);
    }
    // Of tmpfs in the test machines. Without a name it would be a memfd to the kernel.
    let named = format!("/tmp/liveupdate-selftest-{}", std::process::id());
    let path = |path: &str, flags| open(path, flags | OFlags::CLOEXEC, Mode::RWXU);
    let (pipe, _other_end) = rustix::pipe::pipe()?;
    let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    let huge = memfd_create("huge", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB)?;
    let files: [(&str, OwnedFd, Errno); 9] = [
        (
            "an O_PATH descriptor",
            path("/tmp", OFlags::PATH)?,
            Errno::BADF,
        ),
        ("a device", path("/dev/null", OFlags::RDWR)?, Errno::NOENT),
        ("a folder", path("/tmp", OFlags::RDONLY)?, Errno::NOENT),
        (
            "a file of tmpfs",
            path(&named, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?,
            Errno::NOENT,
        ),
        (
            "a file of procfs",
            path("/proc/meminfo", OFlags::RDONLY)?,
            Errno::NOENT,
        ),
        ("a pipe", pipe, Errno::NOENT),
        ("a socket", socket.into(), Errno::NOENT),
        ("a memfd of hugetlb", huge, Errno::NOENT),
        ("a session", on.as_fd().try_clone_to_owned()?, Errno::NOENT),
    ];
    for (case, file, want) in files {
        let argument = Argument::file(file.as_raw_fd(), 1);
        let case = format!("PRESERVE_FD: {case}");
        table.fails(&case, &on, PRESERVE_FD, &argument, want, watch);
    }
    std::fs::remove_file(&named)?;
    Ok(())
}

/// Tokens and memfds that are preserved already.
fn twice(
    table: &mut Table,
    device: &Device,
    session: &liveupdate_uapi::Session,
    file: &File,
) -> Result<()> {
    const OTHER: &str = "outgoing/other";
    let spare = memfd("spare")?;
    let other = device.create_session(OTHER)?;
    let watch = Watch {
        session: Some((session.as_fd(), NAME)),
        memfd: Some(&spare),
    };
    let longer = Argument::file(file.as_raw_fd(), 1).longer(8, 0);
    let full = with_full_table(|| table.call(session, PRESERVE_FD, &longer, At::Offset(0)))?;
    ends(
        "PRESERVE_FD: zeros behind are accepted, no descriptor is needed",
        full,
        Ok(()),
    );
    holds(
        "PRESERVE_FD: a memfd keeps its size from then on",
        !resizable(file),
    );

    let fd = spare.as_raw_fd();
    for (case, fd) in [("another memfd", fd), ("no descriptor", -1)] {
        let case = format!("PRESERVE_FD: {case} under a token that is used");
        let argument = Argument::file(fd, 1);
        table.fails(&case, session, PRESERVE_FD, &argument, Errno::EXIST, watch);
    }
    let duplicate = file.try_clone()?;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let reopened = File::options().read(true).write(true).open(&link)?;
    let to_read = File::open(&link)?;
    for (how, again) in [
        ("", file),
        (", a duplicate", &duplicate),
        (", opened again through /proc", &reopened),
        (", opened again for reading", &to_read),
    ] {
        let argument = Argument::file(again.as_raw_fd(), 2);
        for (place, on) in [("the same session", session), ("another session", &other)] {
            let case = format!("PRESERVE_FD: the same memfd in {place}{how}");
            table.fails(&case, on, PRESERVE_FD, &argument, Errno::BUSY, watch);
        }
    }
    drop(other);
    holds(
        "close: does not free what another session preserves",
        !resizable(file),
    );
    session.preserve(&spare, 2)?;
    session.preserve(memfd("")?, u64::MAX)?;
    session.preserve(memfd("zero")?, 0)?;
    holds("PRESERVE_FD: any token will do after all these", true);
    Ok(())
}

/// The answer cannot be written. Mainline then says that it failed, and has done it.
fn read_only(table: &mut Table, device: &Device, file: &File) -> Result<()> {
    let session = device.create_session(NAME)?;
    let argument = Argument::file(file.as_raw_fd(), 1);
    let got = table.call(&session, PRESERVE_FD, &argument, At::ReadOnly(0));
    ends("PRESERVE_FD: read-only memory", got, Err(Errno::FAULT));
    let again = session.preserve(file, 1);
    if luo_is_ours() {
        holds("PRESERVE_FD: works after read-only memory", again.is_ok());
    } else {
        let stays = again == Err(PreserveError::TokenUsed);
        holds(
            "PRESERVE_FD: is done with read-only memory (mainline)",
            stays,
        );
    }
    drop(session);
    holds("close: undoes it either way", resizable(file));
    Ok(())
}
