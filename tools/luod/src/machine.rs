// SPDX-License-Identifier: GPL-2.0
//! What luod does, without doing it: requests, ends of connections, results of the device and time
//! go in, what is to be done comes out. No input or output, so that every order of events can be
//! tried.
//!
//! Sessions are values of a type `S` that is a shared handle: dropping the last one closes the
//! session, which before the kexec gives up what is preserved in it, and after it finishes it. So
//! what this machine does not hold is undone.

mod arrivals;
mod check;
mod end;
mod stop;
mod update;

use crate::catalogue::{Catalogue, Entry};
use crate::device::DeviceError;
use crate::inherit::Inherited;
use crate::kept::{Boot, Kept};
use luo_client::{owner_of, plain, session_name, Answer, Code, Driver, Id, Phase, Problem};
use luo_client::{Request, Service, Status, Wish};
use std::collections::{BTreeMap, BTreeSet};

use arrivals::Arrived;
pub use arrivals::{Arrivals, Verdict};
use check::Check;
use update::{Share, Stage, Sub};

/// No list of a status is longer, so that it stays one line.
const MAX_LISTED: usize = 4_000;
/// No reason that somebody gives is longer in what luod says and logs.
const MAX_REASON: usize = 200;

/// Milliseconds since some moment, the same one all the time.
pub type Millis = u64;

/// A connection. No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conn(pub u64);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The process, for people: its number may be another's by now.
    pub pid: u32,
    /// Root, or of the group that may subscribe.
    pub member: bool,
}

/// An id of a user: what owns sessions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The user.
    pub uid: u32,
    /// What it calls itself.
    pub id: Id,
}

impl Key {
    /// The name of its session.
    pub fn session(&self) -> String {
        session_name(self.uid, &self.id)
    }

    /// Whose session has this name.
    pub fn of_session(name: &str) -> Option<Self> {
        owner_of(name).map(|(uid, id)| Self { uid, id })
    }
}

/// What to do with what nobody has claimed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unclaimed {
    /// Say so, and keep it.
    Keep,
    /// Say so, and free its memory.
    Finish,
}

/// Who may call an update off by not being able to take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MayRequire {
    /// All that may subscribe.
    Members,
    /// Root's services.
    Root,
}

/// What the machine goes by; checked when the configuration is read.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Ids subscribed at a time, over all users.
    pub subscriptions: usize,
    /// Ids of one user; root has no such limit.
    pub subscriptions_per_user: usize,
    /// Ids of one connection.
    pub ids_per_connection: usize,
    /// What a client has for preserving.
    pub deadline: Millis,
    /// What all clients have together for standing still, and then who drives the update until the
    /// record is made.
    pub stop_deadline: Millis,
    /// An update is called off when a client does not take part, whatever its driver says.
    pub strict: bool,
    /// Whose word it is that a client must live through.
    pub may_require: MayRequire,
    /// What who drives an update has between two of its steps, and to come back after luod was
    /// restarted.
    pub driver_limit: Millis,
    /// After this, what has arrived counts as unclaimed.
    pub claim_limit: Millis,
    /// What becomes of it then.
    pub unclaimed: Unclaimed,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output<S> {
    /// Send a line, and a session with it.
    Send {
        /// To whom.
        to: Conn,
        /// What.
        answer: Answer,
        /// With what.
        session: Option<S>,
    },
    /// Use the device, and tell the result.
    Device(Op),
    /// Put a session into the service manager's store, where it outlives this process.
    Store {
        /// The name there.
        name: String,
        /// What.
        session: S,
    },
    /// Take it out again.
    Unstore {
        /// The name there.
        name: String,
    },
    /// Note down what has arrived and is not finished.
    Note(Catalogue),
    /// Tell the operator.
    Log {
        /// How loud.
        level: Level,
        /// Which user has caused it, if one has: nobody can have a log filled.
        by: Option<u32>,
        /// What: one line, in which nothing forges another.
        text: String,
    },
}

/// How loud to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the record.
    Info,
    /// Somebody may have to do something.
    Warning,
}

/// What to do with the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Find out what has arrived.
    Boot,
    /// Make a session.
    Create(Key, u64),
    /// Get a session that has arrived.
    Retrieve(Key),
    /// Finish a session that has arrived.
    Discard(Key),
    /// Preserve luod's own record.
    Freeze(Catalogue, u64),
}

/// What came of it.
#[derive(Debug)]
pub enum Done<S> {
    /// Of [`Op::Boot`].
    Boot(Result<Arrivals, DeviceError>),
    /// Of [`Op::Create`].
    Create(Key, u64, Result<S, DeviceError>),
    /// Of [`Op::Retrieve`].
    Retrieve(Key, Result<S, DeviceError>),
    /// Of [`Op::Discard`].
    Discard(Key, Result<(), DeviceError>),
    /// Of [`Op::Freeze`].
    Freeze(u64, Result<S, DeviceError>),
}

/// luod's own record for the next kernel.
struct Record<S> {
    #[expect(dead_code, reason = "it is open as long as this is there")]
    session: S,
    /// Its name in the service manager's store.
    stored: String,
}

struct Connection {
    peer: Peer,
    ids: BTreeSet<Id>,
    /// What it has claimed, and may have finished since.
    claims: BTreeSet<Id>,
}

/// All that luod knows.
pub struct Machine<S> {
    rules: Rules,
    boot: Boot,
    connections: BTreeMap<Conn, Connection>,
    /// Who takes part in updates. Those without a connection are preserved already.
    subs: BTreeMap<Key, Sub<S>>,
    stage: Stage<S>,
    /// Which update this is; results that belong to an earlier one are thrown away.
    epoch: u64,
    /// Sessions that the device is making.
    creating: BTreeSet<Key>,
    /// Who does not take part in this update.
    left_out: BTreeSet<Key>,
    /// The update that is under way is called off if one does not take part.
    strict: bool,
    /// Somebody wants to know who could take part.
    check: Option<Check>,
    /// When what is preserved without an update under way is given up: luod was restarted in the
    /// middle of one.
    orphans_until: Option<Millis>,
    arrived: BTreeMap<Key, Arrived<S>>,
    /// Whether luod's record says all that has arrived.
    arrivals_known: bool,
    /// Claims from before what has arrived was known, and whether they are for what may not be
    /// whole.
    early: Vec<(Conn, Id, bool)>,
    boot_again: Option<Millis>,
    /// Not later than the first of all times at which something is to be done.
    wake: Option<Millis>,
    /// Somebody who was waited for when that was last looked at.
    waited_for: Option<Key>,
    now: Millis,
    out: Vec<Output<S>>,
}

impl<S: Clone> Machine<S> {
    /// A machine that begins by looking at what has arrived.
    pub fn new(rules: Rules, boot: Boot, now: Millis) -> Self {
        Self {
            rules,
            boot,
            connections: BTreeMap::new(),
            subs: BTreeMap::new(),
            stage: Stage::Starting { held: None },
            epoch: 0,
            creating: BTreeSet::new(),
            left_out: BTreeSet::new(),
            strict: false,
            check: None,
            orphans_until: None,
            arrived: BTreeMap::new(),
            arrivals_known: false,
            early: Vec::new(),
            boot_again: None,
            wake: None,
            waited_for: None,
            now,
            out: vec![Output::Device(Op::Boot)],
        }
    }

    /// Goes by other rules from now on. What has begun keeps the times it was given.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Takes over what the service manager kept for a luod that is gone. To be called before
    /// anything else.
    pub fn restore(&mut self, inherited: Vec<Inherited<S>>) {
        self.wake_at(self.now);
        for Inherited {
            name,
            kept,
            here,
            session,
        } in inherited
        {
            match kept {
                // The service manager has brought it through the update: it is no longer what it
                // was, it has arrived.
                Some(Kept::Outgoing(key) | Kept::Incoming { key, .. }) if !here => {
                    self.inherit_arrived(key, name, session, None);
                }
                Some(Kept::Incoming { key, whole }) => {
                    let text = format!("{} was claimed before", key.session());
                    self.log(Level::Info, text);
                    self.inherit_arrived(key, name, session, Some(whole));
                }
                Some(Kept::Outgoing(key)) => {
                    self.log(Level::Info, format!("{} was ready before", key.session()));
                    self.orphans_until = Some(self.now.saturating_add(self.rules.driver_limit));
                    let (conn, wish) = (None, Wish::default());
                    let share = Share::Ready {
                        session,
                        stored: name,
                    };
                    self.subs.insert(key, Sub { conn, wish, share });
                }
                Some(Kept::Record { held: true }) if here => {
                    let record = Record {
                        session,
                        stored: name,
                    };
                    self.stage = Stage::Starting { held: Some(record) };
                }
                // The record of an update that was not finished is made anew by the next one.
                _ => self.out.push(Output::Unstore { name }),
            }
        }
    }

    /// Takes what is to be done. Must be called after each of the calls below.
    pub fn take_output(&mut self) -> Vec<Output<S>> {
        std::mem::take(&mut self.out)
    }

    /// Somebody has connected.
    pub fn connected(&mut self, conn: Conn, peer: Peer) {
        let connection = Connection {
            peer,
            ids: BTreeSet::new(),
            claims: BTreeSet::new(),
        };
        self.connections.insert(conn, connection);
    }

    /// A connection is gone, whoever ended it.
    pub fn closed(&mut self, conn: Conn) {
        let Some(connection) = self.connections.remove(&conn) else {
            return;
        };
        for id in connection.ids {
            let uid = connection.peer.uid;
            self.leave(&Key { uid, id }, "its connection is gone");
        }
        self.unclaim(conn, connection.peer.uid, connection.claims);
        self.checker_gone(conn);
        self.driver_gone(conn);
    }

    /// A client's request.
    pub fn request(&mut self, conn: Conn, request: Request) {
        let Some(peer) = self.connections.get(&conn).map(|known| known.peer) else {
            return;
        };
        let id = match &request {
            Request::Subscribe { id, .. }
            | Request::Unsubscribe { id }
            | Request::Ready { id }
            | Request::Stopped { id }
            | Request::Can { id, .. }
            | Request::Claim { id, .. }
            | Request::Finished { id } => Some(id.clone()),
            Request::Abort { id, .. } => id.clone(),
            _ => None,
        };
        let root_only = match &request {
            Request::Check { .. }
            | Request::Prepare { .. }
            | Request::Stop { .. }
            | Request::Freeze { .. }
            | Request::CallOff { .. } => true,
            Request::Abort { id, .. } => id.is_none(),
            _ => false,
        };
        let key = |id| Key { uid: peer.uid, id };
        let done = if !peer.member {
            let text = "only root and members of luod's group may use luod";
            Err(problem(Code::NotPermitted, text))
        } else if root_only && peer.uid != 0 {
            let text = "only root may drive an update";
            Err(problem(Code::NotPermitted, text))
        } else {
            match request {
                Request::Subscribe { id, wish } => self.subscribe(conn, key(id), wish),
                Request::Unsubscribe { id } => self.unsubscribe(conn, key(id)),
                Request::Ready { id } => self.ready(conn, key(id)),
                Request::Stopped { id } => self.stopped(conn, key(id)),
                Request::Can {
                    id,
                    able,
                    reason,
                    files,
                    stop_ms,
                } => self.can(conn, key(id), able, &reason, files, stop_ms),
                Request::Abort {
                    id: Some(id),
                    reason,
                } => self.decline(conn, key(id), &reason),
                Request::Abort { id: None, reason } => self.call_off_for(conn, &reason, false),
                Request::CallOff { reason } => self.call_off_for(conn, &reason, true),
                Request::Claim { id, unverified } => self.claim(conn, key(id), unverified),
                Request::Finished { id } => self.finished(conn, key(id)),
                Request::Status => {
                    let status = self.status(peer);
                    self.send(conn, Answer::Status { status });
                    Ok(())
                }
                Request::Prepare {
                    deadline_ms,
                    strict,
                    force,
                } => self.prepare(conn, deadline_ms, strict, force),
                Request::Check { deadline_ms } => self.check(conn, deadline_ms),
                Request::Stop { deadline_ms } => self.stop_all(conn, deadline_ms),
                Request::Freeze { hold } => self.freeze(conn, hold),
            }
        };
        if let Err(error) = done {
            self.send(conn, Answer::Error { error, id });
        }
    }

    /// The device has done something.
    pub fn device(&mut self, done: Done<S>) {
        match done {
            Done::Boot(result) => self.booted(result),
            Done::Create(key, epoch, result) => self.created(key, epoch, result),
            Done::Retrieve(key, result) => self.retrieved(key, result),
            Done::Discard(key, result) => self.discarded(&key, result),
            Done::Freeze(epoch, result) => self.frozen(epoch, result),
        }
    }

    /// What time it is now. To be called before the calls above, and when [`Self::next_tick`] has
    /// come.
    pub fn tick(&mut self, now: Millis) {
        self.now = now.max(self.now);
        if self.wake.is_none_or(|at| at > self.now) {
            return;
        }
        self.tick_update();
        self.tick_check();
        self.tick_arrivals();
        let update = self.next_update_tick();
        let check = self.check.as_ref().map(|check| check.until);
        let all = update
            .into_iter()
            .chain(check)
            .chain(self.next_arrivals_tick());
        self.wake = all.min();
    }

    /// Something is to be done at this time.
    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |other| other.min(at)));
    }

    /// When [`Self::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Millis> {
        self.wake
    }

    /// What luod is doing.
    pub fn phase(&self) -> Phase {
        self.stage.phase()
    }

    /// Whether this process may end without undoing what is preserved: the service manager's store
    /// has it, and somebody else does the kexec.
    pub fn held(&self) -> bool {
        matches!(self.stage, Stage::Frozen { hold: true, .. })
    }

    /// How things are, as far as it is this user's business.
    pub fn status(&self, peer: Peer) -> Status {
        let visible = |key: &Key| peer.uid == 0 || key.uid == peer.uid;
        let service = |key: &Key, part, wish| Service {
            id: key.id.clone(),
            uid: key.uid,
            part,
            wish,
        };
        let clients = self.subs.iter().filter(|(key, _)| visible(key));
        let arrived = self.arrived.iter().filter(|(key, _)| visible(key));
        let driver = self.driver().and_then(|conn| self.connections.get(&conn));
        let driver = driver.filter(|_| peer.uid == 0);
        Status {
            phase: self.phase(),
            driver: driver.map(|known| Driver {
                uid: known.peer.uid,
                pid: known.peer.pid,
            }),
            connections: self.connections.len() as u64,
            clients: clients
                .take(MAX_LISTED)
                .map(|(key, sub)| service(key, sub.share.part(), sub.wish))
                .collect(),
            arrived: arrived
                .take(MAX_LISTED)
                .map(|(key, arrived)| service(key, arrived.part(), Wish::default()))
                .collect(),
        }
    }

    fn send(&mut self, to: Conn, answer: Answer) {
        if self.connections.contains_key(&to) {
            self.out.push(Output::Send {
                to,
                answer,
                session: None,
            });
        }
    }

    fn send_session(&mut self, to: Conn, answer: Answer, session: S) {
        self.out.push(Output::Send {
            to,
            answer,
            session: Some(session),
        });
    }

    fn log(&mut self, level: Level, text: String) {
        self.out.push(Output::Log {
            level,
            by: None,
            text,
        });
    }

    /// Tells the operator what a user's service has done.
    fn log_of(&mut self, key: &Key, level: Level, text: &str) {
        let text = format!("{} {text}", key.session());
        let by = Some(key.uid);
        self.out.push(Output::Log { level, by, text });
    }
}

/// An error for a client.
fn problem(code: Code, message: impl Into<String>) -> Problem {
    let message = message.into();
    Problem { code, message }
}

/// The entries of a catalogue, in order.
fn entries<'a>(keys: impl Iterator<Item = (&'a Key, bool)>) -> Catalogue {
    let entry = |(key, complete): (&Key, bool)| Entry {
        uid: key.uid,
        id: key.id.clone(),
        complete,
    };
    Catalogue::new(keys.map(entry).collect())
}
