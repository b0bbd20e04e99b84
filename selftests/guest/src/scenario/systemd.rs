// SPDX-License-Identifier: GPL-2.0
//! A client that behaves as systemd does: the descriptors that services have stored go through the
//! update, with a sealed memfd that says which is whose. Two updates; in the second one a service
//! does not want its memory back.

use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::{event, kexec, machine};
use anyhow::{bail, Context, Result};
use liveupdate_uapi::{Device, OpenError, RetrieveSessionError, RetrievedSession, Session};
use rustix::fs::{fcntl_add_seals, fcntl_get_seals, memfd_create, MemfdFlags, SealFlags};
use rustix::io::{fcntl_getfd, fcntl_setfd, FdFlags};
use serde_json::{json, Value};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const SESSION: &str = "systemd";
/// The token of the mapping; those of descriptors come after it.
const MAPPING: u64 = 0;
/// A session that a service made, and stored as it stores any descriptor.
const NESTED: &str = "machine/guest-7/memory";
const LINK: &[u8] = b"anon_inode:[luo_session] ";

const WISH: Wish = Wish {
    bytes: 1 << 20,
    depth: Depth::Full,
    huge: false,
    node: None,
};
/// What nobody asks for in the end.
const UNWANTED: Wish = Wish {
    bytes: 64 << 20,
    ..WISH
};
const MEMFDS: u64 = 4;
const NESTED_SEED: u64 = 77;

/// What services have stored: a name, and a descriptor.
type Store = Vec<(String, OwnedFd)>;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    if cmdline.flag("absent") {
        let found = restore()?;
        event::check("without the device nothing is said", found.is_none(), "");
        return Ok(());
    }
    let generation = cmdline.generation();
    match generation {
        0 => {
            let found = restore()?;
            event::check("the first boot finds nothing", found.is_none(), "");
        }
        1 => arrived(restore()?.context("nothing arrived")?)?,
        _ => return unwanted(),
    }
    let mut store = services()?;
    if generation == 1 {
        store.push(("unwanted".to_owned(), memory::filled(&UNWANTED, 5)?.into()));
    }
    let Some(_session) = save(store)? else {
        bail!("nothing could be saved");
    };
    kexec::load(cmdline)?;
    kexec::jump()
}

/// What services store before the update: memfds, what cannot be preserved among them, and a
/// session of their own.
fn services() -> Result<Store> {
    let mut store = Store::new();
    for seed in 0..MEMFDS {
        let memfd = memory::filled(&WISH, seed)?;
        if seed == 1 {
            // Preserved once already by then: a failure in the middle.
            store.push(("again".to_owned(), store[0].1.try_clone()?));
            let (reader, _) = rustix::pipe::pipe()?;
            store.push(("pipe".to_owned(), reader));
        }
        store.push((format!("memfd-{seed}"), memfd.into()));
    }
    let nested = Device::open()?.create_session(NESTED)?;
    nested.preserve(memory::filled(&WISH, NESTED_SEED)?, 1 << 40)?;
    store.push(("guest-7".to_owned(), nested.into()));
    Ok(store)
}

/// The name of the session that a descriptor is of.
fn session_name(fd: impl AsFd) -> Option<String> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let link = std::fs::read_link(link).ok()?;
    let name = link.as_os_str().as_bytes().strip_prefix(LINK)?;
    String::from_utf8(name.to_vec()).ok()
}

/// Shutdown. The session is to be kept open until the kexec; without live update there is none.
fn save(store: Store) -> Result<Option<(Session, Store)>> {
    let Some(device) = device()? else {
        return Ok(None);
    };
    let session = device.create_session(SESSION)?;
    let mut mapping = Vec::new();
    let (mut token, mut skipped) = (MAPPING + 1, 0);
    for (name, fd) in &store {
        if let Some(nested) = session_name(fd) {
            mapping.push(json!({"name": name, "session": nested}));
        } else if session.preserve(fd, token).is_ok() {
            mapping.push(json!({"name": name, "token": token}));
            token += 1;
        } else {
            skipped += 1;
        }
    }
    event::check(
        "what cannot be preserved is skipped, its token used for the next",
        skipped == 2 && token > MEMFDS,
        format!("{} preserved, {skipped} skipped", token - 1),
    );
    session.preserve(sealed(&json!(mapping))?, MAPPING)?;
    drop(device);
    Ok(Some((session, store)))
}

fn sealed(mapping: &Value) -> Result<OwnedFd> {
    let memfd = memfd_create("mapping", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(mapping.to_string().as_bytes())?;
    file.rewind()?;
    fcntl_add_seals(&file, every_seal())?;
    Ok(file.into())
}

fn every_seal() -> SealFlags {
    SealFlags::SEAL
        | SealFlags::SHRINK
        | SealFlags::GROW
        | SealFlags::WRITE
        | SealFlags::FUTURE_WRITE
        | SealFlags::EXEC
}

/// The device; none, without a word, where there is no live update.
fn device() -> Result<Option<Device>> {
    match Device::open() {
        Ok(device) => Ok(Some(device)),
        Err(OpenError::Absent) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What boot brings back: descriptors, and sessions that services are to get.
#[derive(Default)]
struct Restored {
    fds: Vec<(String, File)>,
    sessions: Vec<(String, RetrievedSession)>,
}

/// Boot. Whatever happens, the session is finished and closed.
fn restore() -> Result<Option<Restored>> {
    let Some(device) = device()? else {
        return Ok(None);
    };
    let session = match device.retrieve_session(SESSION) {
        Ok(session) => session,
        Err(RetrieveSessionError::Unknown) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let restored = read_back(&device, &session);
    session.finish()?;
    restored.map(Some)
}

fn read_back(device: &Device, session: &RetrievedSession) -> Result<Restored> {
    let mut restored = Restored::default();
    for entry in read_mapping(session)? {
        let name = entry["name"].as_str().unwrap_or_default().to_owned();
        if let Some(nested) = entry["session"].as_str() {
            let nested = device.retrieve_session(nested)?;
            fcntl_setfd(&nested, FdFlags::CLOEXEC)?;
            restored.sessions.push((name, nested));
        } else if name != "unwanted" {
            let token = entry["token"]
                .as_u64()
                .context("an entry without a token")?;
            let fd = session.retrieve(token)?;
            fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
            restored.fds.push((name, fd.into()));
        }
    }
    Ok(restored)
}

fn read_mapping(session: &RetrievedSession) -> Result<Vec<Value>> {
    let mapping = session.retrieve(MAPPING)?;
    let kernel_set = fcntl_getfd(&mapping)?.contains(FdFlags::CLOEXEC);
    event::check("what is retrieved is close-on-exec", kernel_set, "");
    let seals = fcntl_get_seals(&mapping)?;
    event::check(
        "the mapping has its seals",
        seals == every_seal(),
        format!("{seals:?}"),
    );
    let mut mapping = File::from(mapping);
    let refused = mapping.write_all(b"x").is_err();
    event::check("the mapping cannot be written to", refused, "");
    let mut text = String::new();
    mapping.read_to_string(&mut text)?;
    match serde_json::from_str(&text)? {
        Value::Array(entries) => Ok(entries),
        other => bail!("the mapping is {other}"),
    }
}

/// Checks all that services get back.
fn arrived(restored: Restored) -> Result<()> {
    let names: Vec<&str> = restored.fds.iter().map(|(name, _)| name.as_str()).collect();
    let want = ["memfd-0", "memfd-1", "memfd-2", "memfd-3"];
    event::check("every memfd is there", names == want, names.join(", "));
    for ((name, file), seed) in restored.fds.iter().zip(0..) {
        let trouble = memory::verify(file, &WISH, seed)?;
        let ok = trouble.is_none();
        event::check(
            &format!("{name} is intact"),
            ok,
            trouble.unwrap_or_default(),
        );
    }
    let Some((owner, nested)) = restored.sessions.into_iter().next() else {
        bail!("the nested session is missing");
    };
    let named = nested.name()?.as_bytes() == NESTED.as_bytes()
        && session_name(&nested).as_deref() == Some(NESTED);
    event::check("the nested session has its name", named, owner);
    // The service's part, long after the device was closed.
    let file = File::from(nested.retrieve(1 << 40)?);
    nested.finish()?;
    let trouble = memory::verify(&file, &WISH, NESTED_SEED)?;
    event::check(
        "what is in the nested session is intact",
        trouble.is_none(),
        trouble.unwrap_or_default(),
    );
    Ok(())
}

/// A service is gone: what it stored is finished without being retrieved, and its memory is free.
fn unwanted() -> Result<()> {
    let before = machine::free_bytes()?;
    let restored = restore()?.context("nothing arrived")?;
    let back = machine::free_bytes()?.saturating_sub(before);
    event::check(
        "what nobody asked for is freed",
        back >= UNWANTED.bytes as u64 / 10 * 9,
        format!("{} of {} MiB", back >> 20, UNWANTED.bytes >> 20),
    );
    arrived(restored)?;
    let found = restore()?;
    event::check("it is gone when asked for again", found.is_none(), "");
    Ok(())
}
