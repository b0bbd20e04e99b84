// SPDX-License-Identifier: GPL-2.0
//! The device: who may open it, and CREATE_SESSION.

use super::table::{holds, verdict, with_full_table, Argument, Table, Watch};
use super::{ends, errno_of_other_opener};
use crate::sys::{self, At};
use anyhow::Result;
use liveupdate_uapi::raw::CREATE_SESSION;
use liveupdate_uapi::{Device, Errno, OpenError, Session};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// One opener at a time, in this process or another.
pub fn exclusive() -> Result<()> {
    let device = Device::open()?;
    let again = Device::open().err();
    holds(
        "open: EBUSY in this process",
        again == Some(OpenError::Busy),
    );
    let busy = Errno::BUSY.raw_os_error();
    holds("open: EBUSY in another", errno_of_other_opener()? == busy);
    let duplicate = device.as_fd().try_clone_to_owned()?;
    drop(device);
    let again = Device::open().err();
    holds(
        "open: EBUSY while a duplicate is open",
        again == Some(OpenError::Busy),
    );
    drop(duplicate);
    holds(
        "open: free after the last close",
        errno_of_other_opener()? == 0,
    );
    drop(Device::open()?);
    holds("open: free after another process's exit", true);
    Ok(())
}

pub fn play(table: &mut Table, device: &Device) -> Result<()> {
    let kept = device.create_session("kept")?;
    let watch = Watch {
        session: Some((kept.as_fd(), "kept")),
        memfd: None,
    };
    table.unknown(
        "device: unknown numbers, those of sessions too",
        device.as_fd(),
        2..=0xff,
        watch,
    );
    let good = Argument::name(b"shape");
    table.shapes(
        "CREATE_SESSION",
        device.as_fd(),
        CREATE_SESSION,
        &good,
        watch,
    );
    names(table, device, watch)?;
    let full = with_full_table(|| {
        let here = At::Offset(0);
        table.failure(device, CREATE_SESSION, &good, here, Errno::MFILE, watch)
    })?;
    verdict("CREATE_SESSION: no descriptor left", full);
    let trouble = table.failure(
        device,
        CREATE_SESSION,
        &good,
        At::ReadOnly(0),
        Errno::FAULT,
        watch,
    );
    verdict("CREATE_SESSION: read-only memory", trouble);
    // None of all these has left a session behind.
    for longer in [0, 8, 4096] {
        let argument = match longer {
            0 => good.clone(),
            longer => good.clone().longer(longer, 0),
        };
        let made = table.call(device, CREATE_SESSION, &argument, At::Offset(0));
        ends(
            &format!("CREATE_SESSION: {longer} zeros behind are accepted, the name is free"),
            made.map(|fd| drop(sys::own(fd))),
            Ok(()),
        );
    }
    Ok(())
}

/// Names of every length and of every byte.
fn names(table: &mut Table, device: &Device, watch: Watch<'_>) -> Result<()> {
    for (case, name, want) in [
        ("empty", &b""[..], Errno::INVAL),
        ("64 bytes without a NUL", &[b'x'; 64], Errno::INVAL),
        ("one that there is", b"kept", Errno::EXIST),
        (
            "one that there is, and bytes behind its NUL",
            b"kept\0not this",
            Errno::EXIST,
        ),
    ] {
        let argument = Argument::name(name);
        let case = format!("CREATE_SESSION: the name is {case}");
        table.fails(&case, device, CREATE_SESSION, &argument, want, watch);
    }
    let long = [b'n'; 63];
    for (case, name) in [
        ("1 byte", &b"1"[..]),
        ("63 bytes", &long),
        ("slashes", b"/a//b/../c/"),
        ("a newline and a space", b" a\nb "),
    ] {
        let session = device.create_session(name)?;
        let trouble = misnamed(&session, name);
        verdict(&format!("CREATE_SESSION: a name of {case}"), trouble);
        let again = table.call(device, CREATE_SESSION, &Argument::name(name), At::Offset(0));
        ends(
            &format!("CREATE_SESSION: a name of {case}, again"),
            again,
            Err(Errno::EXIST),
        );
    }
    let mut sessions = Vec::new();
    let mut trouble = None;
    for byte in 1..=255 {
        let name = [b'b', byte];
        let session = device.create_session(name)?;
        trouble = trouble.or(misnamed(&session, &name));
        sessions.push(session);
    }
    verdict("CREATE_SESSION: a name with each byte but NUL", trouble);
    drop(sessions);
    holds(
        "CREATE_SESSION: a name is free after the close",
        device.create_session([b'b', 1]).is_ok(),
    );
    Ok(())
}

/// GET_NAME and the link in /proc/self/fd must both say the name.
fn misnamed(session: &Session, name: &[u8]) -> Option<String> {
    let said = session.name();
    if !said.as_ref().is_ok_and(|said| said.as_bytes() == name) {
        return Some(format!("GET_NAME says {said:?}"));
    }
    let link = format!("/proc/self/fd/{}", session.as_fd().as_raw_fd());
    let link = std::fs::read_link(link);
    let want = [b"anon_inode:[luo_session] ", name].concat();
    let same = link
        .as_ref()
        .is_ok_and(|link| link.as_os_str().as_bytes() == want);
    (!same).then(|| format!("the link is {link:?}"))
}
