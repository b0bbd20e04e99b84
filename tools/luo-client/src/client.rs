// SPDX-License-Identifier: GPL-2.0
//! A client for services, and for who drives an update: one connection, blocking calls, sessions in and out.

use crate::id::Id;
use crate::line::Lines;
use crate::message::{decode, encode, Answer, Code, Problem, Request, Wish, MAX_ANSWER};
use crate::wire::{receive, send};
use liveupdate_uapi::{FinishFailed, RetrievedSession, Session};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection to luod.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    lines: Lines,
    /// Descriptors come with the first byte of their line, so they are in the order of the lines that have one.
    fds: VecDeque<OwnedFd>,
    /// What came while something else was waited for.
    events: VecDeque<(Answer, Option<OwnedFd>)>,
    /// Kept open until the kexec, or until the update is called off.
    held: BTreeMap<Id, Session>,
}

/// What luod wants of a service.
#[derive(Debug)]
pub enum Event {
    /// Preserve in this session, then say [`Client::ready`].
    Start {
        /// For which id.
        id: Id,
        /// An empty session.
        session: Session,
        /// After this, the update goes on without this client.
        deadline: Duration,
    },
    /// The update is called off; the session is closed.
    Abort {
        /// Whose; all, if there is none.
        id: Option<Id>,
        /// Why.
        reason: String,
    },
}

/// Why something could not be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// luod is not there, or is gone. What was preserved is given up: connect and subscribe again.
    Connection(io::Error),
    /// luod said no.
    Refused(Problem),
    /// luod said something that cannot be.
    Nonsense(String),
    /// The session could not be finished; it comes back.
    Finish(FinishFailed),
    /// No word from luod within the time given.
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "no connection to luod: {error}"),
            Self::Refused(problem) => f.write_str(&problem.message),
            Self::Nonsense(what) => write!(f, "luod said what cannot be: {what}"),
            Self::Finish(error) => error.fmt(f),
            Self::Timeout => f.write_str("luod did not answer in time"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Connection(errno.into())
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// luod does not run, or this user may not talk to it.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Failure> {
        let socket = UnixStream::connect(path).map_err(Failure::Connection)?;
        Ok(Self {
            socket,
            lines: Lines::new(MAX_ANSWER),
            fds: VecDeque::new(),
            events: VecDeque::new(),
            held: BTreeMap::new(),
        })
    }

    /// Takes part in updates under this id. Says whether something has arrived that can be claimed.
    ///
    /// # Errors
    ///
    /// Another connection has the id, or the user may not.
    pub fn subscribe(&mut self, id: &Id) -> Result<bool, Failure> {
        self.say(&Request::Subscribe {
            id: id.clone(),
            wish: Wish::default(),
        })?;
        match self.answer()? {
            (Answer::Subscribed { claimable, .. }, _) => Ok(claimable),
            (other, _) => Err(nonsense(&other)),
        }
    }

    /// All that shall live on is in the session. It is kept open here until the kexec or until the update is called off.
    ///
    /// # Errors
    ///
    /// The session is given up.
    pub fn ready(&mut self, id: &Id, session: Session) -> Result<(), Failure> {
        self.held.insert(id.clone(), session);
        let done = self.say(&Request::Ready { id: id.clone() });
        let done = done.and_then(|()| self.expect_ok());
        if done.is_err() {
            self.held.remove(id);
        }
        done
    }

    /// This update has to go on without this id. The caller drops the session.
    ///
    /// # Errors
    ///
    /// There is no update.
    pub fn decline(&mut self, id: &Id, reason: &str) -> Result<(), Failure> {
        self.say(&Request::Abort {
            id: Some(id.clone()),
            reason: reason.to_owned(),
        })?;
        self.expect_ok()
    }

    /// The session that has arrived for this id, if there is one.
    ///
    /// # Errors
    ///
    /// There is one, and it cannot be had.
    pub fn claim(&mut self, id: &Id) -> Result<Option<RetrievedSession>, Failure> {
        self.say(&Request::Claim {
            id: id.clone(),
            unverified: false,
        })?;
        match self.answer() {
            Ok((Answer::Claimed { .. }, Some(fd))) => Ok(Some(fd.into())),
            Ok((other, _)) => Err(nonsense(&other)),
            Err(Failure::Refused(problem)) if problem.code == Code::NothingToClaim => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Finishes a session that was claimed: what was not retrieved from it is freed.
    ///
    /// # Errors
    ///
    /// [`Failure::Finish`] gives the session back.
    pub fn finish(&mut self, id: &Id, session: RetrievedSession) -> Result<(), Failure> {
        session.finish().map_err(Failure::Finish)?;
        self.say(&Request::Finished { id: id.clone() })?;
        self.expect_ok()
    }

    /// Waits for luod to want something. A `Start` or `Abort` of each id must be answered before the next is asked for.
    ///
    /// # Errors
    ///
    /// luod is gone: what was preserved is given up.
    pub fn next_event(&mut self) -> Result<Event, Failure> {
        self.event_until(None)
    }

    /// As [`Self::next_event`], with a limit.
    ///
    /// # Errors
    ///
    /// [`Failure::Timeout`] when nothing has come.
    pub fn event_within(&mut self, limit: Duration) -> Result<Event, Failure> {
        self.event_until(Some(Instant::now() + limit))
    }

    fn event_until(&mut self, until: Option<Instant>) -> Result<Event, Failure> {
        let next = match self.events.pop_front() {
            Some(next) => next,
            None => self.read_with_fd(until)?,
        };
        match next {
            (Answer::StartPreservation { id, deadline_ms }, Some(session)) => Ok(Event::Start {
                id,
                session: session.into(),
                deadline: Duration::from_millis(deadline_ms),
            }),
            (Answer::Abort { id, reason }, _) => {
                match &id {
                    Some(id) => drop(self.held.remove(id)),
                    None => self.held.clear(),
                }
                Ok(Event::Abort { id, reason })
            }
            (other, _) => Err(nonsense(&other)),
        }
    }

    /// Sends a request. For who drives an update; services have the calls above.
    ///
    /// # Errors
    ///
    /// luod is gone.
    pub fn say(&mut self, request: &Request) -> Result<(), Failure> {
        let line = encode(request);
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let sent = send(&self.socket, rest, None)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// The next line from luod, of any kind. For who drives an update.
    ///
    /// # Errors
    ///
    /// luod is gone, or `until` is over.
    pub fn read(&mut self, until: Option<Instant>) -> Result<Answer, Failure> {
        self.read_with_fd(until).map(|(answer, _)| answer)
    }

    fn read_with_fd(
        &mut self,
        until: Option<Instant>,
    ) -> Result<(Answer, Option<OwnedFd>), Failure> {
        loop {
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    let answer: Answer =
                        decode(&line).map_err(|bad| Failure::Nonsense(bad.problem.message))?;
                    let fd = match answer {
                        Answer::StartPreservation { .. } | Answer::Claimed { .. } => {
                            self.fds.pop_front()
                        }
                        _ => None,
                    };
                    return Ok((answer, fd));
                }
                Ok(None) => {}
                Err(_) => return Err(Failure::Nonsense("a line without an end".into())),
            }
            self.wait(until)?;
            let mut buffer = [0; 4096];
            let got = receive(&self.socket, &mut buffer, true)?;
            self.fds.extend(got.fd);
            if got.bytes == 0 {
                let gone = io::Error::new(io::ErrorKind::UnexpectedEof, "luod hung up");
                return Err(Failure::Connection(gone));
            }
            self.lines.push(buffer.get(..got.bytes).unwrap_or_default());
        }
    }

    fn wait(&self, until: Option<Instant>) -> Result<(), Failure> {
        let Some(until) = until else {
            return Ok(());
        };
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Ok(0) => Err(Failure::Timeout),
            // A signal: the caller may want to know, so it is not waited on.
            Err(Errno::INTR) => Err(Failure::Timeout),
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What luod answers to a request, with the descriptor that came along; what it wants meanwhile is kept for later.
    fn answer(&mut self) -> Result<(Answer, Option<OwnedFd>), Failure> {
        loop {
            match self.read_with_fd(None)? {
                (Answer::Error { error, .. }, _) => return Err(Failure::Refused(error)),
                event @ (Answer::StartPreservation { .. } | Answer::Abort { .. }, _) => {
                    self.events.push_back(event);
                }
                answer => return Ok(answer),
            }
        }
    }

    fn expect_ok(&mut self) -> Result<(), Failure> {
        match self.answer()? {
            (Answer::Ok { .. }, _) => Ok(()),
            (other, _) => Err(nonsense(&other)),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn nonsense(answer: &Answer) -> Failure {
    Failure::Nonsense(String::from_utf8_lossy(&encode(answer)).trim().to_owned())
}
