// SPDX-License-Identifier: GPL-2.0
//! A client for services, and for who drives an update: one connection, blocking calls, sessions in
//! and out.

use crate::id::Id;
use crate::line::Lines;
use crate::message::{decode, encode, Answer, Code, Files, Problem, Request, Wish, MAX_ANSWER};
use crate::wire::{receive, send};
use liveupdate_uapi::{FinishFailed, RetrievedSession, Session};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::{retry_on_intr, Errno};
use rustix::net::sockopt::{set_socket_timeout, Timeout};
use rustix::net::{connect, socket_with, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an answer of luod is waited for, if [`Client::set_patience`] says nothing else.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to luod. Signals end no call, and no call waits for ever, except those for the next
/// event.
///
/// An event loop waits until the socket ([`AsFd`]) can be read. But what came while a call waited
/// for its answer has been read already, and the socket does not tell: before each wait, take
/// events while [`Client::pending`] says so, and after it, with [`Client::event_within`] and no
/// time, until there is none:
///
/// ```no_run
/// # use luo_client::{Client, Event, Failure};
/// # use rustix::event::{poll, PollFd, PollFlags};
/// # use std::time::Duration;
/// # fn one(client: &mut Client, event: Event) {}
/// # fn turn(client: &mut Client) -> Result<(), Box<dyn std::error::Error>> {
/// if !client.pending() {
///     // With whatever else the program waits for.
///     poll(&mut [PollFd::new(client, PollFlags::IN)], None)?;
/// }
/// loop {
///     match client.event_within(Duration::ZERO) {
///         Ok(event) => one(client, event),
///         Err(Failure::Timeout) => break,
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    patience: Duration,
    /// An answer is overdue: it would be taken for that to another request.
    overdue: bool,
    lines: Lines,
    /// Descriptors come with the first byte of their line, so they are in the order of the lines
    /// that have one.
    fds: VecDeque<OwnedFd>,
    /// What came while something else was waited for.
    events: VecDeque<(Answer, Option<OwnedFd>)>,
    /// Kept open until the kexec, or until the update is called off.
    held: BTreeMap<Id, Session>,
}

/// What is known of an id that has just been subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Something has arrived for it that can be claimed.
    pub claimable: bool,
    /// What an earlier process preserved under this id goes to the next kernel.
    pub preserved: bool,
}

/// What luod wants of a service.
#[derive(Debug)]
#[non_exhaustive]
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
    /// All are prepared: stand still, preserve the last state in [`Client::session`], and say
    /// [`Client::stopped`]. Only for who has subscribed with [`Wish::stops`].
    Stop {
        /// Which id.
        id: Id,
        /// After this, the update goes on without this client.
        deadline: Duration,
    },
    /// Could this id be preserved now? Answer with [`Client::can`], and go on. Only for who has
    /// subscribed with [`Wish::checks`].
    Check {
        /// Which id.
        id: Id,
        /// After this, nobody waits for the answer.
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
        let kind = SocketType::STREAM;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        // This bounds connect() as well.
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        let address = SocketAddrUnix::new(path.as_ref())?;
        match retry_on_intr(|| connect(&socket, &address)) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(Failure::Timeout),
            Err(errno) => return Err(errno.into()),
        }
        Ok(Self {
            socket: socket.into(),
            patience: PATIENCE,
            overdue: false,
            lines: Lines::new(MAX_ANSWER),
            fds: VecDeque::new(),
            events: VecDeque::new(),
            held: BTreeMap::new(),
        })
    }

    /// How long an answer is waited for; thirty seconds to begin with. After [`Failure::Timeout`]
    /// the connection is of no use any more.
    ///
    /// # Errors
    ///
    /// The time is zero.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), Failure> {
        set_socket_timeout(&self.socket, Timeout::Send, Some(patience))?;
        self.patience = patience;
        Ok(())
    }

    /// Whether something has been read from the socket already that [`Self::next_event`] gives, or
    /// will look at.
    pub fn pending(&self) -> bool {
        !self.events.is_empty() || self.lines.has_line()
    }

    /// Takes part in updates under this id. Says whether something has arrived that can be claimed.
    ///
    /// # Errors
    ///
    /// Another connection has the id, or the user may not.
    pub fn subscribe(&mut self, id: &Id) -> Result<bool, Failure> {
        let subscribed = self.subscribe_with(id, Wish::default())?;
        Ok(subscribed.claimable)
    }

    /// As [`Self::subscribe`], with more said.
    ///
    /// # Errors
    ///
    /// Another connection has the id, or the user may not.
    pub fn subscribe_with(&mut self, id: &Id, wish: Wish) -> Result<Subscribed, Failure> {
        let id = id.clone();
        self.say(&Request::Subscribe { id, wish })?;
        match self.answer()? {
            (
                Answer::Subscribed {
                    claimable,
                    preserved,
                    ..
                },
                _,
            ) => Ok(Subscribed {
                claimable,
                preserved,
            }),
            (other, _) => Err(nonsense(&other)),
        }
    }

    /// Takes part no longer, nor with what was ready; the session of this id is closed.
    ///
    /// # Errors
    ///
    /// All is frozen: it is too late.
    pub fn unsubscribe(&mut self, id: &Id) -> Result<(), Failure> {
        self.say(&Request::Unsubscribe { id: id.clone() })?;
        self.expect_ok()?;
        self.held.remove(id);
        Ok(())
    }

    /// All that shall live on is in the session. It is kept open here until the kexec or until the
    /// update is called off.
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

    /// The session of an id that is ready: for its last state, after [`Event::Stop`].
    pub fn session(&self, id: &Id) -> Option<&Session> {
        self.held.get(id)
    }

    /// It stands still, and its last state is in the session.
    ///
    /// # Errors
    ///
    /// The time is over, and the session given up.
    pub fn stopped(&mut self, id: &Id) -> Result<(), Failure> {
        let done = self.say(&Request::Stopped { id: id.clone() });
        let done = done.and_then(|()| self.expect_ok());
        if done.is_err() {
            self.held.remove(id);
        }
        done
    }

    /// The answer to [`Event::Check`]: whether it could be preserved, or why not; as what; and for
    /// how long it would stand still.
    ///
    /// # Errors
    ///
    /// luod is gone.
    pub fn can(
        &mut self,
        id: &Id,
        able: Result<(), &str>,
        files: Vec<Files>,
        stop: Option<Duration>,
    ) -> Result<(), Failure> {
        let stop_ms = stop.map(|stop| u64::try_from(stop.as_millis()).unwrap_or(u64::MAX));
        self.say(&Request::Can {
            id: id.clone(),
            able: able.is_ok(),
            reason: able.err().unwrap_or_default().to_owned(),
            files,
            stop_ms,
        })
    }

    /// This update has to go on without this id. The caller drops the session, if it has not given
    /// it to [`Self::ready`].
    ///
    /// # Errors
    ///
    /// There is no update, or it is too late.
    pub fn decline(&mut self, id: &Id, reason: &str) -> Result<(), Failure> {
        self.say(&Request::Abort {
            id: Some(id.clone()),
            reason: reason.to_owned(),
        })?;
        self.expect_ok()?;
        self.held.remove(id);
        Ok(())
    }

    /// The session that has arrived for this id, if there is one.
    ///
    /// # Errors
    ///
    /// There is one, and it cannot be had.
    pub fn claim(&mut self, id: &Id) -> Result<Option<RetrievedSession>, Failure> {
        self.claim_as(id, false)
    }

    /// The session that has arrived, also if nobody knows whether all is in: only for who can tell
    /// by what is in it.
    ///
    /// # Errors
    ///
    /// There is one, and it cannot be had.
    pub fn claim_unverified(&mut self, id: &Id) -> Result<Option<RetrievedSession>, Failure> {
        self.claim_as(id, true)
    }

    fn claim_as(&mut self, id: &Id, unverified: bool) -> Result<Option<RetrievedSession>, Failure> {
        let id = id.clone();
        self.say(&Request::Claim { id, unverified })?;
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

    /// Waits for luod to want something. A `Start` or `Abort` of each id must be answered before
    /// the next is asked for.
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
            (Answer::Stop { id, deadline_ms }, _) => Ok(Event::Stop {
                id,
                deadline: Duration::from_millis(deadline_ms),
            }),
            (Answer::Check { id, deadline_ms }, _) => Ok(Event::Check {
                id,
                deadline: Duration::from_millis(deadline_ms),
            }),
            // What is wrong with an answer to a check is no answer to anything else.
            (Answer::Error { error, .. }, _) => Err(Failure::Refused(error)),
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
        if self.overdue {
            let text = "an answer of luod is overdue: connect again";
            let error = io::Error::new(io::ErrorKind::TimedOut, text);
            return Err(Failure::Connection(error));
        }
        let line = encode(request);
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let sent = match send(&self.socket, rest, None) {
                Err(Errno::AGAIN) => {
                    // Half a line may be said.
                    self.overdue = true;
                    return Err(Failure::Timeout);
                }
                sent => sent?,
            };
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
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            });
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut polled, Some(&left)) {
                Ok(0) => return Err(Failure::Timeout),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// What luod answers to a request, with the descriptor that came along; what it wants meanwhile
    /// is kept for later.
    fn answer(&mut self) -> Result<(Answer, Option<OwnedFd>), Failure> {
        let until = Instant::now().checked_add(self.patience);
        loop {
            let read = self.read_with_fd(until);
            self.overdue |= matches!(read, Err(Failure::Timeout));
            match read? {
                (Answer::Error { error, .. }, _) => return Err(Failure::Refused(error)),
                event @ (
                    Answer::StartPreservation { .. }
                    | Answer::Abort { .. }
                    | Answer::Stop { .. }
                    | Answer::Check { .. },
                    _,
                ) => {
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
