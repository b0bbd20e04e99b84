// SPDX-License-Identifier: GPL-2.0
//! What has arrived: RETRIEVE_SESSION, RETRIEVE_FD, FINISH.

use super::table::{holds, resizable, verdict, with_full_table, Argument, Table, Watch};
use super::{ends, memfd};
use crate::scenario::luo_is_ours;
use crate::sys::{self, At};
use anyhow::Result;
use liveupdate_uapi::raw::{FINISH, GET_NAME, PRESERVE_FD, RETRIEVE_FD, RETRIEVE_SESSION};
use liveupdate_uapi::{
    Device, Errno, PreserveError, RetrieveError, RetrieveSessionError, RetrievedSession,
};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

const HERE: At = At::Offset(0);

pub fn play(table: &mut Table) -> Result<()> {
    let device = Device::open()?;
    sessions(table, &device)?;
    read_only_session(table, &device)?;
    let session = device.retrieve_session("in/files")?;
    let ours = memfd("not preserved")?;
    let watch = Watch {
        session: Some((session.as_fd(), "in/files")),
        memfd: Some(&ours),
    };
    table.unknown(
        "incoming session: unknown numbers, those of the device too",
        session.as_fd(),
        (0..=0xff).filter(|number| !(0x40..=0x43).contains(number)),
        watch,
    );
    let argument = Argument::file(ours.as_raw_fd(), 100);
    table.fails(
        "incoming session: PRESERVE_FD",
        &session,
        PRESERVE_FD,
        &argument,
        Errno::INVAL,
        watch,
    );
    let good = Argument::get_name(0);
    table.shapes(
        "GET_NAME, incoming",
        session.as_fd(),
        GET_NAME,
        &good,
        watch,
    );
    files(table, &session, watch)?;
    let (file, token) = again(&device, &session)?;
    finish(table, &device, session, token)?;
    let outgoing = device.create_session("in/files")?;
    holds("CREATE_SESSION: an incoming session's name is free", true);
    outgoing.preserve(&file, 1)?;
    holds("FINISH: a retrieved memfd can be preserved again", true);
    finish_read_only(table, &device)
}

/// Names that no session has which has arrived.
pub fn unknown(table: &mut Table, device: &Device) {
    for (case, name) in [
        ("an unknown one", &b"none"[..]),
        ("empty", b""),
        ("64 bytes without a NUL", &[b'x'; 64]),
        ("only the beginning of one", b"in/empt"),
        ("one with more behind", b"in/emptyy"),
        ("one in capitals", b"IN/EMPTY"),
    ] {
        let case = format!("RETRIEVE_SESSION: the name is {case}");
        let argument = Argument::name(name);
        let watch = Watch::default();
        table.fails(
            &case,
            device,
            RETRIEVE_SESSION,
            &argument,
            Errno::NOENT,
            watch,
        );
    }
}

/// RETRIEVE_SESSION with wrong arguments, and what is right after them.
fn sessions(table: &mut Table, device: &Device) -> Result<()> {
    let watch = Watch::default();
    let good = Argument::name(b"in/empty");
    table.shapes(
        "RETRIEVE_SESSION",
        device.as_fd(),
        RETRIEVE_SESSION,
        &good,
        watch,
    );
    unknown(table, device);
    let full = with_full_table(|| {
        table.failure(device, RETRIEVE_SESSION, &good, HERE, Errno::MFILE, watch)
    })?;
    verdict("RETRIEVE_SESSION: no descriptor left", full);
    // The name ends at its NUL.
    let argument = Argument::name(b"in/empty\0more").longer(8, 0);
    let got = table.call(device, RETRIEVE_SESSION, &argument, HERE);
    let case = "RETRIEVE_SESSION: zeros behind are accepted, nothing before was too much";
    ends(case, got, Ok(()));
    let session = RetrievedSession::from(sys::own(got?));
    table.fails(
        "RETRIEVE_SESSION: one that is retrieved",
        device,
        RETRIEVE_SESSION,
        &good,
        Errno::INVAL,
        Watch {
            session: Some((session.as_fd(), "in/empty")),
            memfd: None,
        },
    );
    let link = format!("/proc/self/fd/{}", session.as_fd().as_raw_fd());
    let link = std::fs::read_link(link)?;
    let named = link.as_os_str() == "anon_inode:[luo_session] in/empty";
    holds("RETRIEVE_SESSION: the link in /proc names it", named);
    session.finish()?;
    let gone = device.retrieve_session("in/empty").err();
    holds(
        "RETRIEVE_SESSION: one that is finished and closed",
        gone == Some(RetrieveSessionError::Unknown),
    );
    Ok(())
}

/// The answer cannot be written. Mainline then closes the session, and so finishes it.
fn read_only_session(table: &mut Table, device: &Device) -> Result<()> {
    let argument = Argument::name(b"in/readonly");
    let got = table.call(device, RETRIEVE_SESSION, &argument, At::ReadOnly(0));
    ends("RETRIEVE_SESSION: read-only memory", got, Err(Errno::FAULT));
    let again = device.retrieve_session("in/readonly");
    if luo_is_ours() {
        let kept = again.is_ok_and(|session| holds_token(&session, 1));
        holds("RETRIEVE_SESSION: works after read-only memory", kept);
    } else {
        let lost = again.err() == Some(RetrieveSessionError::Unknown);
        holds(
            "RETRIEVE_SESSION: is lost with read-only memory (mainline)",
            lost,
        );
    }
    Ok(())
}

/// RETRIEVE_FD with wrong arguments.
fn files(table: &mut Table, session: &RetrievedSession, watch: Watch<'_>) -> Result<()> {
    let good = Argument::file(-1, 7);
    table.shapes("RETRIEVE_FD", session.as_fd(), RETRIEVE_FD, &good, watch);
    for token in [1, 6, 8, u64::MAX - 1, 7 << 32] {
        let case = format!("RETRIEVE_FD: token {token:#x}, which is none");
        let argument = Argument::file(-1, token);
        table.fails(&case, session, RETRIEVE_FD, &argument, Errno::NOENT, watch);
    }
    for (case, token) in [("", 7), (", nor such a token", 1)] {
        let argument = Argument::file(-1, token);
        let full = with_full_table(|| {
            table.failure(session, RETRIEVE_FD, &argument, HERE, Errno::MFILE, watch)
        })?;
        verdict(&format!("RETRIEVE_FD: no descriptor left{case}"), full);
    }
    let trouble = table.failure(
        session,
        RETRIEVE_FD,
        &good,
        At::ReadOnly(0),
        Errno::FAULT,
        watch,
    );
    verdict("RETRIEVE_FD: read-only memory", trouble);
    let longer = table.call(session, RETRIEVE_FD, &good.longer(8, 0), HERE);
    let case = "RETRIEVE_FD: zeros behind are accepted, nothing before was too much";
    ends(case, longer, Ok(()));
    let file = File::from(sys::own(longer?));
    holds("RETRIEVE_FD: the content is right", content(file)? == "7");
    Ok(())
}

/// The same token again gives the same file; each token gives its own.
fn again(device: &Device, session: &RetrievedSession) -> Result<(File, u64)> {
    let mut last = None;
    for token in [u64::MAX, 7, 0] {
        let file = File::from(session.retrieve(token)?);
        let again = File::from(session.retrieve(token)?);
        let (one, two) = (file.metadata()?, again.metadata()?);
        let same = (one.dev(), one.ino()) == (two.dev(), two.ino());
        let right = content(again)? == token.to_string();
        holds(
            &format!("RETRIEVE_FD: token {token:#x} twice is one file"),
            same && right,
        );
        last = Some((file, token));
    }
    let (file, token) = last.unwrap_or((memfd("")?, 0));
    let outgoing = device.create_session("too early")?;
    let busy = outgoing.preserve(&file, 1) == Err(PreserveError::FilePreserved);
    holds("PRESERVE_FD: a retrieved memfd before FINISH", busy);
    Ok((file, token))
}

fn finish(table: &mut Table, device: &Device, session: RetrievedSession, token: u64) -> Result<()> {
    let watch = Watch {
        session: Some((session.as_fd(), "in/files")),
        memfd: None,
    };
    let good = Argument::finish(0);
    table.shapes("FINISH", session.as_fd(), FINISH, &good, watch);
    for reserved in [1, -1] {
        let case = format!("FINISH: reserved is {reserved}");
        let argument = Argument::finish(reserved);
        table.fails(&case, &session, FINISH, &argument, Errno::INVAL, watch);
    }
    holds(
        "FINISH: the wrong ones left the files there",
        holds_token(&session, token),
    );
    let longer = good.clone().longer(8, 0);
    let got = table.call(&session, FINISH, &longer, HERE);
    ends("FINISH: zeros behind are accepted", got, Ok(()));
    ends(
        "FINISH: again",
        table.call(&session, FINISH, &good, HERE),
        Ok(()),
    );
    table.fails(
        "FINISH: RETRIEVE_FD afterwards",
        &session,
        RETRIEVE_FD,
        &Argument::file(-1, token),
        Errno::NOENT,
        watch,
    );
    table.fails(
        "FINISH: RETRIEVE_SESSION while it is open",
        device,
        RETRIEVE_SESSION,
        &Argument::name(b"in/files"),
        Errno::INVAL,
        watch,
    );
    let duplicate = session.as_fd().try_clone_to_owned()?;
    drop(session);
    let busy = device.retrieve_session("in/files").err();
    let busy = busy == Some(RetrieveSessionError::AlreadyRetrieved);
    holds("close: not while a duplicate is open", busy);
    drop(duplicate);
    let gone = device.retrieve_session("in/files").err();
    holds(
        "close: it is gone",
        gone == Some(RetrieveSessionError::Unknown),
    );
    Ok(())
}

/// FINISH writes nothing new, but it answers. Mainline has finished before it notices.
fn finish_read_only(table: &mut Table, device: &Device) -> Result<()> {
    let session = device.retrieve_session("in/finish")?;
    let kept = File::from(session.retrieve(1)?);
    let argument = Argument::finish(0);
    let got = table.call(&session, FINISH, &argument, At::ReadOnly(0));
    ends("FINISH: read-only memory", got, Err(Errno::FAULT));
    if luo_is_ours() {
        let all = holds_token(&session, 1) && holds_token(&session, 2);
        holds("FINISH: has done nothing with read-only memory", all);
    } else {
        let gone = session.retrieve(2).err() == Some(RetrieveError::Unknown);
        holds("FINISH: is done with read-only memory (mainline)", gone);
    }
    session.finish()?;
    holds("FINISH: works after read-only memory", true);
    holds(
        "FINISH: a retrieved memfd can change its size",
        resizable(&kept),
    );
    // Closed without FINISH, and "in/left" is never asked for: the kernel must not mind.
    Ok(())
}

fn holds_token(session: &RetrievedSession, token: u64) -> bool {
    let file = session.retrieve(token).map(|fd: OwnedFd| File::from(fd));
    file.is_ok_and(|file| content(file).is_ok_and(|content| content == token.to_string()))
}

fn content(mut file: File) -> Result<String> {
    let mut content = String::new();
    file.rewind()?;
    file.read_to_string(&mut content)?;
    Ok(content)
}
