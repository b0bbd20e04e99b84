// SPDX-License-Identifier: GPL-2.0
//! What luod does, without doing it: requests, ends of connections, results of the device and time go in, what is to be done
//! comes out. No input or output, so that every order of events can be tried.
//!
//! Sessions are values of a type `S` that is a shared handle: dropping the last one closes the session, which before the
//! kexec gives up what is preserved in it, and after it finishes it. So what this machine does not hold is undone.

mod arrivals;
mod update;

use crate::catalogue::{Catalogue, Entry};
use crate::device::DeviceError;
use luo_client::{owner_of, session_name, Answer, Code, Id, Part, Phase, Problem, Request};
use luo_client::{Service, Status};
use std::collections::{BTreeMap, BTreeSet};

pub use arrivals::Arrivals;
use arrivals::{Arrived, Arrivedness};
use update::{Share, Stage, Sub};

/// No list of a status is longer, so that it stays one line.
const MAX_LISTED: usize = 4_000;

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
    /// What who drives an update has between two of its steps, and to come back after luod was restarted.
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
    Log(Level, String),
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

/// Under which name luod's own record is in the service manager's store.
const STORED_RECORD: &str = "internal";
/// The same, when the update is not to be called off with its driver's end.
const STORED_RECORD_HELD: &str = "internal-held";
/// What names of sessions to the next kernel begin with there.
const STORED_OUT: &str = "out/";
/// And those of sessions from the previous one.
const STORED_IN: &str = "in/";

struct Connection {
    peer: Peer,
    ids: BTreeSet<Id>,
    /// What it has claimed, and may have finished since.
    claims: BTreeSet<Id>,
}

/// All that luod knows.
pub struct Machine<S> {
    rules: Rules,
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
    /// When what is preserved without an update under way is given up: luod was restarted in the middle of one.
    orphans_until: Option<Millis>,
    arrived: BTreeMap<Key, Arrived<S>>,
    /// Whether `arrived` is all that can have arrived.
    arrivals_known: bool,
    /// Claims from before what has arrived was known.
    early: Vec<(Conn, Id)>,
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
    pub fn new(rules: Rules, now: Millis) -> Self {
        Self {
            rules,
            connections: BTreeMap::new(),
            subs: BTreeMap::new(),
            stage: Stage::Starting { held: None },
            epoch: 0,
            creating: BTreeSet::new(),
            left_out: BTreeSet::new(),
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

    /// Takes over what the service manager kept for a luod that is gone. To be called before anything else.
    pub fn restore(&mut self, stored: Vec<(String, S)>) {
        self.wake_at(self.now);
        for (name, session) in stored {
            let key = |prefix| Key::of_session(name.strip_prefix(prefix)?);
            if name == STORED_RECORD_HELD {
                self.stage = Stage::Starting {
                    held: Some(session),
                };
            } else if let Some(key) = key(STORED_OUT) {
                self.log(Level::Info, format!("{} was ready before", key.session()));
                self.orphans_until = Some(self.now.saturating_add(self.rules.driver_limit));
                let share = Share::Ready(session);
                self.subs.insert(key, Sub { conn: None, share });
            } else if let Some(key) = key(STORED_IN) {
                self.log(Level::Info, format!("{} was claimed before", key.session()));
                let arrived = Arrived {
                    state: Arrivedness::Held { session, by: None },
                    until: Some(self.now.saturating_add(self.rules.claim_limit)),
                };
                self.arrived.insert(key, arrived);
            } else {
                // The record of an update that was not finished is made anew by the next one.
                self.out.push(Output::Unstore { name });
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
        self.driver_gone(conn);
    }

    /// A client's request.
    pub fn request(&mut self, conn: Conn, request: Request) {
        let Some(peer) = self.connections.get(&conn).map(|known| known.peer) else {
            return;
        };
        let id = match &request {
            Request::Subscribe { id }
            | Request::Unsubscribe { id }
            | Request::Ready { id }
            | Request::Claim { id }
            | Request::Finished { id } => Some(id.clone()),
            Request::Abort { id, .. } => id.clone(),
            _ => None,
        };
        let root_only = match &request {
            Request::Prepare { .. } | Request::Freeze { .. } => true,
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
                Request::Subscribe { id } => self.subscribe(conn, key(id)),
                Request::Unsubscribe { id } => self.unsubscribe(conn, key(id)),
                Request::Ready { id } => self.ready(conn, key(id)),
                Request::Abort {
                    id: Some(id),
                    reason,
                } => self.decline(conn, key(id), &reason),
                Request::Abort { id: None, reason } => {
                    self.call_off_for(conn, &reason);
                    Ok(())
                }
                Request::Claim { id } => self.claim(conn, key(id)),
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

    /// What time it is now. To be called before the calls above, and when [`Self::next_tick`] has come.
    pub fn tick(&mut self, now: Millis) {
        self.now = now.max(self.now);
        if self.wake.is_none_or(|at| at > self.now) {
            return;
        }
        self.tick_update();
        self.tick_arrivals();
        let update = self.next_update_tick();
        let all = update.into_iter().chain(self.next_arrivals_tick());
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

    /// Whether this process may end without undoing what is preserved: the service manager's store has it, and somebody else does
    /// the kexec.
    pub fn held(&self) -> bool {
        matches!(self.stage, Stage::Frozen { hold: true, .. })
    }

    /// How things are, as far as it is this user's business.
    pub fn status(&self, peer: Peer) -> Status {
        let visible = |key: &Key| peer.uid == 0 || key.uid == peer.uid;
        let service = |key: &Key, part| Service {
            id: key.id.clone(),
            uid: key.uid,
            part,
        };
        let clients = self.subs.iter().filter(|(key, _)| visible(key));
        let arrived = self.arrived.iter().filter(|(key, _)| visible(key));
        Status {
            phase: self.phase(),
            connections: self.connections.len() as u64,
            clients: clients
                .take(MAX_LISTED)
                .map(|(key, sub)| service(key, sub.share.part()))
                .collect(),
            arrived: arrived
                .take(MAX_LISTED)
                .map(|(key, arrived)| {
                    let waiting = matches!(
                        arrived.state,
                        Arrivedness::Waiting | Arrivedness::Discarding
                    );
                    let part = if waiting {
                        Part::Waiting
                    } else {
                        Part::Claimed
                    };
                    service(key, part)
                })
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
        self.out.push(Output::Log(level, text));
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
