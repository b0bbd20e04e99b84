// SPDX-License-Identifier: GPL-2.0
//! luod as a process, and a service manager that has a store of descriptors as systemd has one.

use anyhow::{bail, Context, Result};
use luo_client::{Client, SOCKET};
use rustix::io::{fcntl_dupfd_cloexec, fcntl_setfd, FdFlags};
use rustix::net::{recvmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{getpid, pidfd_getfd, pidfd_open, Pid, PidfdFlags, PidfdGetfdFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NOTIFY: &str = "/run/notify";
/// What nobody but [`Store::settle`] says to the store.
const MARK: &[u8] = b"MARK=1";

type Stored = Vec<(String, OwnedFd)>;

/// What a service manager keeps for luod.
#[derive(Clone, Default)]
pub struct Store {
    stored: Arc<Mutex<Stored>>,
    marks: Arc<AtomicU64>,
}

impl Store {
    pub fn open() -> Result<Self> {
        let _ = std::fs::remove_file(NOTIFY);
        let socket = UnixDatagram::bind(NOTIFY).context("cannot bind the notify socket")?;
        let store = Self::default();
        let inside = store.clone();
        std::thread::spawn(move || while inside.hear(&socket).is_ok() {});
        Ok(store)
    }

    fn hear(&self, socket: &UnixDatagram) -> Result<()> {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut io = [IoSliceMut::new(&mut text)];
        let got = recvmsg(socket, &mut io, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                fds.extend(came);
            }
        }
        let text = String::from_utf8_lossy(&text[..got.bytes]).into_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        let name = name.unwrap_or("stored").to_owned();
        let Ok(mut stored) = self.stored.lock() else {
            bail!("the store is broken");
        };
        if text.contains("FDSTOREREMOVE=1") {
            stored.retain(|(other, _)| *other != name);
        } else if text.contains("FDSTORE=1") {
            stored.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
        } else if text.as_bytes() == MARK {
            self.marks.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Waits until all was heard that has been said: systemd hears a service out as well before it
    /// starts it anew.
    fn settle(&self) -> Result<()> {
        let before = self.marks.load(Ordering::Acquire);
        UnixDatagram::unbound()?
            .send_to(MARK, NOTIFY)
            .context("nobody listens to the notify socket")?;
        let until = Instant::now() + Duration::from_secs(30);
        while self.marks.load(Ordering::Acquire) == before {
            if Instant::now() > until {
                bail!("the store hears nothing");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub fn names(&self) -> Vec<String> {
        let stored = self.stored.lock();
        stored.map_or(Vec::new(), |stored| {
            stored.iter().map(|(name, _)| name.clone()).collect()
        })
    }
}

/// luod, killed when dropped.
pub struct Luod(Child);

impl Luod {
    /// Starts it and waits until it can be connected to.
    pub fn start(store: Option<&Store>) -> Result<Self> {
        let mut command = Command::new("/bin/luod");
        if let Some(store) = store {
            store.settle()?;
            let Ok(stored) = store.stored.lock() else {
                bail!("the store is broken");
            };
            let numbers: Vec<String> = stored
                .iter()
                .map(|(_, fd)| fd.as_raw_fd().to_string())
                .collect();
            let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
            command = Command::new("/init");
            command
                .arg("luod-with-fds")
                .env("NUMBERS", numbers.join(","))
                .env("LISTEN_FDNAMES", names.join(":"))
                .env("NOTIFY_SOCKET", NOTIFY);
        }
        let child = command.spawn().context("cannot start luod")?;
        let luod = Self(child);
        let until = Instant::now() + Duration::from_secs(30);
        while Client::connect(SOCKET).is_err() {
            if Instant::now() > until {
                bail!("luod does not listen");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(luod)
    }

    /// Starts it, and does not wait.
    pub fn start_only() -> Result<Self> {
        let child = Command::new("/bin/luod").spawn();
        Ok(Self(child.context("cannot start luod")?))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// kill -9
    pub fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Luod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Becomes luod, with descriptors of the first process from number 3 on: what a service manager
/// does.
pub fn with_fds() -> Result<()> {
    let numbers = std::env::var("NUMBERS")?;
    let init = Pid::from_raw(1).context("no first process")?;
    let init = pidfd_open(init, PidfdFlags::empty())?;
    // Out of the way.
    let init = fcntl_dupfd_cloexec(init, 100)?;
    let mut count = 0;
    let mut fds = Vec::new();
    for number in numbers.split(',').filter(|number| !number.is_empty()) {
        let fd = pidfd_getfd(&init, number.parse()?, PidfdGetfdFlags::empty())?;
        if fd.as_raw_fd() != 3 + count {
            bail!("descriptor {} instead of {}", fd.as_raw_fd(), 3 + count);
        }
        fcntl_setfd(&fd, FdFlags::empty())?;
        fds.push(fd);
        count += 1;
    }
    let error = Command::new("/bin/luod")
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_PID", getpid().as_raw_nonzero().to_string())
        .exec();
    Err(error).context("cannot run luod")
}
