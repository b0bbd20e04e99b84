// SPDX-License-Identifier: GPL-2.0
//! /dev/liveupdate: sessions and the descriptors in them (include/uapi/linux/liveupdate.h).

use crate::sys;
use anyhow::{Context, Result};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const CREATE_SESSION: libc::c_ulong = 0xba00;
const RETRIEVE_SESSION: libc::c_ulong = 0xba01;
const PRESERVE_FD: libc::c_ulong = 0xba40;
const RETRIEVE_FD: libc::c_ulong = 0xba41;
const FINISH: libc::c_ulong = 0xba42;

#[repr(C)]
struct SessionArgument {
    size: u32,
    fd: i32,
    name: [u8; 64],
}

#[repr(C)]
struct FdArgument {
    size: u32,
    fd: i32,
    token: u64,
}

#[repr(C)]
struct FinishArgument {
    size: u32,
    reserved: u32,
}

fn size_of<T>() -> u32 {
    u32::try_from(std::mem::size_of::<T>()).unwrap_or(u32::MAX)
}

/// The opened device; only one process may have it.
pub struct Device(File);

/// A session; closing it gives up what an outgoing one preserves.
pub struct Session(File);

impl Device {
    pub fn open() -> Result<Self> {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/liveupdate")
            .map(Self)
            .context("cannot open /dev/liveupdate; boot with kho=on liveupdate=on")
    }

    pub fn create_session(&self, name: &str) -> Result<Session> {
        self.session(CREATE_SESSION, name)
            .with_context(|| format!("cannot create the session \"{name}\""))
    }

    pub fn retrieve_session(&self, name: &str) -> io::Result<Session> {
        self.session(RETRIEVE_SESSION, name)
    }

    fn session(&self, number: libc::c_ulong, name: &str) -> io::Result<Session> {
        let mut argument = SessionArgument {
            size: size_of::<SessionArgument>(),
            fd: -1,
            name: [0; 64],
        };
        for (to, from) in argument.name.iter_mut().take(63).zip(name.bytes()) {
            *to = from;
        }
        sys::ioctl(&self.0, number, &mut argument)?;
        Ok(Session(sys::own(argument.fd)))
    }
}

impl Session {
    pub fn preserve(&self, file: impl AsFd, token: u64) -> Result<()> {
        let mut argument = FdArgument {
            size: size_of::<FdArgument>(),
            fd: file.as_fd().as_raw_fd(),
            token,
        };
        sys::ioctl(&self.0, PRESERVE_FD, &mut argument)
            .with_context(|| format!("cannot preserve the file with token {token}"))
    }

    pub fn retrieve(&self, token: u64) -> Result<File> {
        let mut argument = FdArgument {
            size: size_of::<FdArgument>(),
            fd: -1,
            token,
        };
        sys::ioctl(&self.0, RETRIEVE_FD, &mut argument)
            .with_context(|| format!("cannot retrieve the file with token {token}"))?;
        Ok(sys::own(argument.fd))
    }

    pub fn finish(self) -> Result<()> {
        let mut argument = FinishArgument {
            size: size_of::<FinishArgument>(),
            reserved: 0,
        };
        sys::ioctl(&self.0, FINISH, &mut argument).context("cannot finish the session")
    }
}
