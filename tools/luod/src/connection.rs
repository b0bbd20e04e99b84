// SPDX-License-Identifier: GPL-2.0
//! One client's socket: lines in, lines and sessions out, and the bounds that keep a bad client's
//! harm to itself.

use luo_client::{encode, receive, send, Answer, Code, Lines, Problem, MAX_REQUEST};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Bytes that wait for a client that does not read; one answer may be longer.
const MAX_WAITING: usize = 64 << 10;
/// The same for root: who drives an update may hear of thousands of clients at once.
const MAX_WAITING_ROOT: usize = 4 << 20;
/// Sessions that wait: each is a descriptor.
const MAX_SESSIONS: usize = 64;
/// Lines a client can send at once, and then in a second.
const BURST: u64 = 200;
const LINES_A_SECOND: u64 = 100;

/// A line that is on its way, and a session that goes with its first byte.
struct Waiting<S> {
    bytes: Vec<u8>,
    sent: usize,
    session: Option<S>,
}

pub(crate) struct Connection<S> {
    socket: UnixStream,
    lines: Lines,
    out: VecDeque<Waiting<S>>,
    waiting: usize,
    most_waiting: usize,
    /// Lines it may still send, in thousandths.
    allowance: u64,
    refilled: u64,
    /// Whether the event loop waits until it can be written to.
    pub(crate) watched_for_writing: bool,
}

/// Why a connection has to end.
#[derive(Debug)]
pub(crate) enum End {
    /// The client has gone, or its socket is broken.
    Gone,
    /// It has done what may not be done; this is to be said first.
    Bad(Problem),
}

impl From<Errno> for End {
    fn from(_: Errno) -> Self {
        Self::Gone
    }
}

fn bad(code: Code, message: &str) -> End {
    let message = message.to_owned();
    End::Bad(Problem { code, message })
}

impl<S: AsFd> Connection<S> {
    pub(crate) fn new(socket: UnixStream, root: bool, now: u64) -> Self {
        Self {
            socket,
            lines: Lines::new(MAX_REQUEST),
            out: VecDeque::new(),
            waiting: 0,
            most_waiting: if root { MAX_WAITING_ROOT } else { MAX_WAITING },
            allowance: BURST * 1000,
            refilled: now,
            watched_for_writing: false,
        }
    }

    /// Reads once, and gives the whole lines that are there now.
    pub(crate) fn read(&mut self, now: u64) -> Result<Vec<Vec<u8>>, End> {
        let mut buffer = [0; MAX_REQUEST];
        // With no room for descriptors the kernel closes what is sent: none of them ever gets here.
        let got = match receive(&self.socket, &mut buffer, false) {
            Ok(got) => got,
            Err(Errno::AGAIN) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        if got.truncated {
            return Err(bad(Code::BadLine, "luod takes no descriptors"));
        }
        if got.bytes == 0 {
            return Err(End::Gone);
        }
        self.lines.push(buffer.get(..got.bytes).unwrap_or_default());
        let gained = now
            .saturating_sub(self.refilled)
            .saturating_mul(LINES_A_SECOND);
        self.refilled = now;
        self.allowance = self.allowance.saturating_add(gained).min(BURST * 1000);
        let mut lines = Vec::new();
        loop {
            match self.lines.next_line() {
                Ok(None) => return Ok(lines),
                Ok(Some(line)) => {
                    let Some(rest) = self.allowance.checked_sub(1000) else {
                        let text = "too many lines in too short a time";
                        return Err(bad(Code::TooMany, text));
                    };
                    self.allowance = rest;
                    lines.push(line);
                }
                Err(_) => return Err(bad(Code::BadLine, "the line is too long")),
            }
        }
    }

    /// Takes an answer to be sent.
    pub(crate) fn queue(&mut self, answer: &Answer, session: Option<S>) -> Result<(), End> {
        let sessions = || {
            let with = self.out.iter().filter(|waiting| waiting.session.is_some());
            with.count()
        };
        if self.waiting > self.most_waiting || (session.is_some() && sessions() >= MAX_SESSIONS) {
            return Err(End::Gone);
        }
        let bytes = encode(answer);
        self.waiting += bytes.len();
        self.out.push_back(Waiting {
            bytes,
            sent: 0,
            session,
        });
        self.flush()
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) -> Result<(), End> {
        while let Some(first) = self.out.front_mut() {
            let rest = first.bytes.get(first.sent..).unwrap_or_default();
            let fd = first.session.as_ref().map(AsFd::as_fd);
            match send(&self.socket, rest, fd) {
                Ok(count) => {
                    first.session = None;
                    first.sent += count;
                    self.waiting = self.waiting.saturating_sub(count);
                    if first.sent >= first.bytes.len() {
                        self.out.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        !self.out.is_empty()
    }
}

impl<S> AsFd for Connection<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
