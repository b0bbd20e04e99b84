// SPDX-License-Identifier: GPL-2.0
//! A call with any argument at any place, and the proof that one that fails has changed nothing.

use crate::event;
use crate::sys::{self, Arena, At};
use anyhow::{Context, Result};
use rustix::fs::ftruncate;
use rustix::io::Errno;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// All arguments have this shape: their size, a descriptor or a reserved word, and a name, a token
/// or nothing.
#[derive(Clone)]
pub struct Argument {
    size: u32,
    word: i32,
    rest: Vec<u8>,
}

impl Argument {
    fn new(word: i32, rest: Vec<u8>) -> Self {
        let size = u32::try_from(8 + rest.len()).unwrap_or(u32::MAX);
        Self { size, word, rest }
    }

    /// For CREATE_SESSION and RETRIEVE_SESSION; up to 64 bytes.
    pub fn name(name: &[u8]) -> Self {
        let mut rest = name.to_vec();
        rest.resize(64, 0);
        Self::new(-1, rest)
    }

    /// For PRESERVE_FD and RETRIEVE_FD.
    pub fn file(fd: i32, token: u64) -> Self {
        Self::new(fd, token.to_ne_bytes().to_vec())
    }

    /// For FINISH.
    pub fn finish(reserved: i32) -> Self {
        Self::new(reserved, Vec::new())
    }

    /// For GET_NAME.
    pub fn get_name(reserved: i32) -> Self {
        Self::new(reserved, vec![0; 64])
    }

    /// With another size in its first word.
    pub fn sized(mut self, size: u32) -> Self {
        self.size = size;
        self
    }

    /// Longer by that many zeros, the last of which is `last`.
    pub fn longer(mut self, by: usize, last: u8) -> Self {
        self.rest.resize(self.rest.len() + by - 1, 0);
        self.rest.push(last);
        Self::new(self.word, self.rest)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_ne_bytes().to_vec();
        bytes.extend(self.word.to_ne_bytes());
        bytes.extend(&self.rest);
        bytes
    }
}

/// What must be as before when a call has failed.
#[derive(Clone, Copy, Default)]
pub struct Watch<'a> {
    /// A session that still answers to this name.
    pub session: Option<(BorrowedFd<'a>, &'a str)>,
    /// A memfd that can still change its size.
    pub memfd: Option<&'a File>,
}

impl Watch<'_> {
    fn trouble(&self) -> Option<String> {
        if let Some((session, name)) = self.session {
            let now = liveupdate_uapi::raw::get_name(session);
            let same = |now: &[u8; 64]| now.starts_with(name.as_bytes()) && now[name.len()] == 0;
            if !now.as_ref().is_ok_and(same) {
                return Some(format!("the session \"{name}\" answers {now:?}"));
            }
        }
        let frozen = |memfd: &&File| !resizable(memfd);
        self.memfd
            .filter(frozen)
            .map(|_| "the memfd can no longer change its size".to_owned())
    }
}

/// Whether a memfd can change its size; while it is preserved it cannot.
pub fn resizable(memfd: &File) -> bool {
    let Ok(length) = memfd.metadata().map(|metadata| metadata.len()) else {
        return false;
    };
    ftruncate(memfd, length + 4096).is_ok() && ftruncate(memfd, length).is_ok()
}

pub struct Table {
    arena: Arena,
}

impl Table {
    pub fn new() -> Result<Self> {
        Ok(Self {
            arena: Arena::new()?,
        })
    }

    /// Calls, and gives back what the kernel made of the second word.
    pub fn call(
        &mut self,
        on: impl AsFd,
        number: u32,
        argument: &Argument,
        at: At,
    ) -> Result<i32, Errno> {
        let offset = self.place(argument, at);
        self.arena.ioctl(on.as_fd(), number, at)?;
        let word = self.arena.bytes().get(offset + 4..offset + 8);
        let word = word.and_then(|word| word.try_into().ok());
        Ok(word.map_or(-1, i32::from_ne_bytes))
    }

    /// Writes as much of the argument as lies in the arena, and zeros all around it; says where it
    /// begins.
    fn place(&mut self, argument: &Argument, at: At) -> usize {
        let (At::Offset(offset) | At::ReadOnly(offset)) = at else {
            return 0;
        };
        let memory = self.arena.bytes_mut();
        memory.fill(0);
        for (to, from) in memory.iter_mut().skip(offset).zip(argument.bytes()) {
            *to = from;
        }
        offset
    }

    /// A call that must fail with this error number, and change nothing. Says what was wrong.
    pub fn failure(
        &mut self,
        on: impl AsFd,
        number: u32,
        argument: &Argument,
        at: At,
        want: Errno,
        watch: Watch<'_>,
    ) -> Option<String> {
        self.place(argument, at);
        let memory = self.arena.bytes().to_vec();
        let open = sys::descriptors(MOST_DESCRIPTORS);
        let got = self.arena.ioctl(on.as_fd(), number, at);
        if got != Err(want) {
            return Some(format!("{got:?} instead of {want:?}"));
        }
        if self.arena.bytes() != memory {
            return Some("the argument has changed".to_owned());
        }
        let now = sys::descriptors(MOST_DESCRIPTORS);
        if now != open {
            return Some(format!("descriptors were {open:?} and are {now:?}"));
        }
        watch.trouble()
    }

    /// As `failure`, and reports it.
    pub fn fails(
        &mut self,
        case: &str,
        on: impl AsFd,
        number: u32,
        argument: &Argument,
        want: Errno,
        watch: Watch<'_>,
    ) {
        let trouble = self.failure(on, number, argument, At::Offset(0), want, watch);
        verdict(case, trouble);
    }

    /// Every argument that is wrong by its shape: its place, its size, the bits around its number.
    pub fn shapes(
        &mut self,
        what: &str,
        on: BorrowedFd<'_>,
        number: u32,
        good: &Argument,
        watch: Watch<'_>,
    ) {
        let end = |inside| At::Offset(Arena::BYTES - inside);
        let whole = good.size;
        let odd = |bits: u32| number | bits;
        const OTHER_TYPE: u32 = 0x0100;
        let here = At::Offset(0);
        let good = || good.clone();
        let cases = [
            ("null", number, good(), At::Null, Errno::FAULT),
            ("an unmapped page", number, good(), At::Behind, Errno::FAULT),
            (
                "the kernel's memory",
                number,
                good(),
                At::Kernel,
                Errno::FAULT,
            ),
            ("the last address", number, good(), At::Top, Errno::FAULT),
            ("its size half mapped", number, good(), end(2), Errno::FAULT),
            ("only its size mapped", number, good(), end(4), Errno::FAULT),
            ("size 0", number, good().sized(0), here, Errno::INVAL),
            ("size 4", number, good().sized(4), here, Errno::INVAL),
            (
                "a byte short",
                number,
                good().sized(whole - 1),
                here,
                Errno::INVAL,
            ),
            (
                "a tail that is not zero",
                number,
                good().longer(8, 1),
                here,
                Errno::TOOBIG,
            ),
            (
                "a byte behind",
                number,
                good().longer(1, 0xff),
                here,
                Errno::TOOBIG,
            ),
            (
                "a page behind",
                number,
                good().longer(4096, 1),
                here,
                Errno::TOOBIG,
            ),
            (
                "4 GiB of tail",
                number,
                good().sized(u32::MAX),
                here,
                Errno::FAULT,
            ),
            (
                "2 GiB of tail",
                number,
                good().sized(1 << 31),
                here,
                Errno::FAULT,
            ),
            (
                "4 GiB, not zero",
                number,
                good().longer(8, 1).sized(u32::MAX),
                here,
                Errno::TOOBIG,
            ),
            ("another type", odd(OTHER_TYPE), good(), here, Errno::NOTTY),
            (
                "another type, null",
                odd(OTHER_TYPE),
                good(),
                At::Null,
                Errno::FAULT,
            ),
            (
                "direction none to read",
                odd(2 << 30),
                good(),
                here,
                Errno::NOTTY,
            ),
            (
                "direction none to write",
                odd(1 << 30),
                good(),
                here,
                Errno::NOTTY,
            ),
            (
                "direction both, and a size",
                odd(3 << 30 | whole << 16),
                good(),
                here,
                Errno::NOTTY,
            ),
        ];
        for (case, number, argument, at, want) in cases {
            let trouble = self.failure(on, number, &argument, at, want, watch);
            verdict(&format!("{what}: {case}"), trouble);
        }
    }

    /// Numbers that a descriptor does not know, whatever the argument.
    pub fn unknown(
        &mut self,
        what: &str,
        on: BorrowedFd<'_>,
        numbers: impl Iterator<Item = u32>,
        watch: Watch<'_>,
    ) {
        let argument = Argument::name(b"unknown");
        let mut trouble = None;
        for number in numbers {
            for at in [At::Offset(0), At::Null] {
                let wrong = self.failure(on, 0xba00 | number, &argument, at, Errno::INVAL, watch);
                let named = |wrong| format!("number {number:#x}: {wrong}");
                trouble = trouble.or(wrong.map(named));
            }
        }
        verdict(what, trouble);
    }
}

/// More descriptors than a scenario has.
const MOST_DESCRIPTORS: i32 = 128;

/// Runs `work` while the process can have no further descriptor.
pub fn with_full_table<T>(work: impl FnOnce() -> T) -> Result<T> {
    let before = getrlimit(Resource::Nofile);
    let tight = Rlimit {
        current: u64::try_from(MOST_DESCRIPTORS).ok(),
        ..before
    };
    setrlimit(Resource::Nofile, tight).context("cannot lower RLIMIT_NOFILE")?;
    let null = File::open("/dev/null")?;
    let filling: Vec<OwnedFd> =
        std::iter::from_fn(|| null.as_fd().try_clone_to_owned().ok()).collect();
    let result = work();
    drop(filling);
    setrlimit(Resource::Nofile, before).context("cannot raise RLIMIT_NOFILE again")?;
    Ok(result)
}

/// Reports a case; `trouble` says what is wrong with it.
pub fn verdict(case: &str, trouble: Option<String>) {
    event::check(case, trouble.is_none(), trouble.unwrap_or_default());
}

/// Reports a case that must hold.
pub fn holds(case: &str, ok: bool) {
    event::check(case, ok, "");
}
