// SPDX-License-Identifier: GPL-2.0
//! After the kexec: what has arrived, who claims it, and what becomes of the rest.

use super::update::Stage;
use super::{entries, problem, Conn, Key, Level, Machine, Millis, Op, Output, Unclaimed};
use crate::device::DeviceError;
use crate::kept::Kept;
use luo_client::{Answer, Code, Id, Part, Problem};
use std::collections::BTreeSet;

/// How long to wait before the device is asked again what has arrived.
const BOOT_AGAIN: Millis = 5_000;

/// What is known of a session that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its owner had said that all was in.
    Whole,
    /// Its owner had not.
    Partial,
    /// luod's record does not tell, as it is lost.
    Unverified,
}

/// What has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// For whom, and what is known of it.
    pub sessions: Vec<(Key, Verdict)>,
    /// Why luod's record does not tell; then others than these may have arrived.
    pub trouble: Option<String>,
}

/// A session that has arrived and is not finished.
pub(super) struct Arrived<S> {
    pub(super) state: Arrivedness<S>,
    /// It is known that all is in; none while luod's record has not been looked at.
    pub(super) whole: Option<bool>,
    /// When it counts as unclaimed.
    pub(super) until: Option<Millis>,
}

pub(super) enum Arrivedness<S> {
    /// The kernel has it.
    Waiting,
    /// It is being fetched, for this connection; which may take it as it is, or only if it is
    /// whole.
    Retrieving { conn: Conn, unverified: bool },
    /// It was given to a connection; without one, to one that is gone, and the next one may claim
    /// it again.
    Held {
        session: S,
        by: Option<Conn>,
        /// Its name in the service manager's store.
        stored: String,
    },
    /// It is being finished.
    Discarding,
}

impl<S> Arrived<S> {
    pub(super) fn part(&self) -> Part {
        match self.state {
            Arrivedness::Held { by: Some(_), .. } | Arrivedness::Retrieving { .. } => Part::Claimed,
            _ if self.whole == Some(false) => Part::Unverified,
            _ => Part::Waiting,
        }
    }
}

impl<S: Clone> Machine<S> {
    pub(super) fn booted(&mut self, result: Result<Arrivals, DeviceError>) {
        if !matches!(self.stage, Stage::Starting { .. }) {
            return;
        }
        let arrivals = match result {
            Ok(arrivals) => arrivals,
            Err(DeviceError::Absent) => {
                self.log(Level::Warning, DeviceError::Absent.to_string());
                Arrivals::default()
            }
            Err(error) => {
                self.log(
                    Level::Warning,
                    format!("what has arrived is not known yet: {error}"),
                );
                let again = self.now.saturating_add(BOOT_AGAIN);
                self.boot_again = Some(again);
                self.wake_at(again);
                return;
            }
        };
        self.arrivals_known = arrivals.trouble.is_none();
        let until = self.now.saturating_add(self.rules.claim_limit);
        self.wake_at(until);
        for (key, verdict) in arrivals.sessions {
            self.judge(key, verdict, Some(until));
        }
        let unjudged = self
            .arrived
            .iter()
            .filter(|(_, arrived)| arrived.whole.is_none());
        let unjudged: Vec<Key> = unjudged.map(|(key, _)| key.clone()).collect();
        let verdict = match self.arrivals_known {
            true => Verdict::Partial,
            false => Verdict::Unverified,
        };
        for key in unjudged {
            self.judge(key, verdict, Some(until));
        }
        if let Some(trouble) = arrivals.trouble.filter(|_| !self.arrived.is_empty()) {
            let text =
                format!("{trouble}: what has arrived is kept, but nobody knows what is whole");
            self.log(Level::Warning, text);
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Operating) {
            Stage::Starting { held: Some(record) } => {
                self.orphans_until = None;
                Stage::Frozen {
                    driver: None,
                    hold: true,
                    until: self.now,
                    record,
                }
            }
            _ => Stage::Operating,
        };
        self.note();
        self.wake_at(self.now);
        for (conn, id, unverified) in std::mem::take(&mut self.early) {
            let Some(uid) = self.connections.get(&conn).map(|known| known.peer.uid) else {
                continue;
            };
            let key = Key { uid, id };
            if let Err(error) = self.claim(conn, key.clone(), unverified) {
                let id = Some(key.id);
                self.send(conn, Answer::Error { error, id });
            }
        }
    }

    /// A session from the service manager's store that has arrived, now or before luod was
    /// restarted.
    pub(super) fn inherit_arrived(
        &mut self,
        key: Key,
        stored: String,
        session: S,
        whole: Option<bool>,
    ) {
        let by = None;
        let state = Arrivedness::Held {
            session,
            by,
            stored,
        };
        let until = self.now.saturating_add(self.rules.claim_limit);
        let until = whole.map(|_| until);
        self.arrived.insert(
            key,
            Arrived {
                state,
                whole,
                until,
            },
        );
    }

    /// What becomes of a session that has arrived.
    fn judge(&mut self, key: Key, verdict: Verdict, until: Option<Millis>) {
        let held = match self.arrived.get_mut(&key) {
            // Claimed before luod was restarted.
            Some(Arrived { whole: Some(_), .. }) => return,
            Some(arrived) => {
                arrived.until = until;
                true
            }
            None => false,
        };
        let state = match verdict {
            Verdict::Whole => {
                self.log(Level::Info, format!("{} has arrived", key.session()));
                Arrivedness::Waiting
            }
            Verdict::Unverified => {
                let text = "has arrived, and is kept; it is not known whether it is whole";
                self.log(Level::Warning, format!("{} {text}", key.session()));
                Arrivedness::Waiting
            }
            Verdict::Partial => {
                let text = "has arrived, and is finished: its owner was not ready";
                self.log(Level::Warning, format!("{} {text}", key.session()));
                if held {
                    self.forget(&key);
                    return;
                }
                self.out.push(Output::Device(Op::Discard(key.clone())));
                Arrivedness::Discarding
            }
        };
        let whole = Some(verdict != Verdict::Unverified);
        match self.arrived.get_mut(&key) {
            Some(arrived) => arrived.whole = whole,
            None => {
                let arrived = Arrived {
                    state,
                    whole,
                    until,
                };
                self.arrived.insert(key, arrived);
            }
        }
    }

    pub(super) fn claimable(&self, key: &Key) -> bool {
        self.arrived.get(key).is_some_and(|arrived| {
            matches!(
                arrived.state,
                Arrivedness::Waiting | Arrivedness::Held { by: None, .. }
            )
        })
    }

    pub(super) fn claim(&mut self, conn: Conn, key: Key, unverified: bool) -> Result<(), Problem> {
        let id = key.id.clone();
        if let Some(connection) = self.connections.get(&conn) {
            let most = self.rules.ids_per_connection;
            if connection.claims.len() >= most && !connection.claims.contains(&id) {
                let text = "a connection cannot claim more ids";
                return Err(problem(Code::TooMany, text));
            }
        }
        self.look_for(conn, key, unverified)?;
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.claims.insert(id);
        }
        Ok(())
    }

    fn look_for(&mut self, conn: Conn, key: Key, unverified: bool) -> Result<(), Problem> {
        let nothing = || {
            problem(
                Code::NothingToClaim,
                format!("nothing has arrived for {}", key.id),
            )
        };
        let in_use = || {
            problem(
                Code::InUse,
                format!("{} is claimed by another connection", key.id),
            )
        };
        let judged = self
            .arrived
            .get(&key)
            .is_some_and(|arrived| arrived.whole.is_some());
        if matches!(self.stage, Stage::Starting { .. }) && !judged {
            let waiting = self.early.iter().filter(|(other, ..)| *other == conn);
            if waiting.count() >= self.rules.ids_per_connection {
                return Err(problem(Code::TooMany, "too many claims wait"));
            }
            self.early.push((conn, key.id, unverified));
            return Ok(());
        }
        let Some(arrived) = self.arrived.get_mut(&key) else {
            if self.arrivals_known {
                return Err(nothing());
            }
            // The record is lost; but the name says whose it is, and the kernel whether it is
            // there.
            if self.arrived.len() >= 2 * self.rules.subscriptions {
                return Err(problem(Code::TooMany, "too many claims wait"));
            }
            let arrived = Arrived {
                state: Arrivedness::Retrieving { conn, unverified },
                whole: Some(false),
                until: None,
            };
            self.arrived.insert(key.clone(), arrived);
            self.out.push(Output::Device(Op::Retrieve(key)));
            return Ok(());
        };
        let doubtful = arrived.whole != Some(true) && !unverified;
        match &mut arrived.state {
            Arrivedness::Waiting | Arrivedness::Held { by: None, .. } if doubtful => {
                return Err(not_verified(&key));
            }
            Arrivedness::Waiting => {
                arrived.state = Arrivedness::Retrieving { conn, unverified };
                self.out.push(Output::Device(Op::Retrieve(key)));
            }
            Arrivedness::Held { session, by, .. } => {
                if by.is_some_and(|other| other != conn) {
                    return Err(in_use());
                }
                *by = Some(conn);
                arrived.until = None;
                let session = session.clone();
                self.send_session(conn, Answer::Claimed { id: key.id }, session);
            }
            Arrivedness::Retrieving { .. } => return Err(in_use()),
            Arrivedness::Discarding => return Err(nothing()),
        }
        Ok(())
    }

    pub(super) fn retrieved(&mut self, key: Key, result: Result<S, DeviceError>) {
        let Some(arrived) = self.arrived.get_mut(&key) else {
            return;
        };
        let Arrivedness::Retrieving { conn, unverified } = arrived.state else {
            return;
        };
        let whole = arrived.whole == Some(true);
        let id = Some(key.id.clone());
        let error = match result {
            Ok(session) => {
                let doubtful = !whole && !unverified;
                let there = self.connections.contains_key(&conn) && !doubtful;
                let stored = Kept::Incoming {
                    key: key.clone(),
                    whole,
                }
                .name(&self.boot);
                let until = self.now.saturating_add(self.rules.claim_limit);
                let by = there.then_some(conn);
                arrived.state = Arrivedness::Held {
                    session: session.clone(),
                    by,
                    stored: stored.clone(),
                };
                arrived.until = match there {
                    true => None,
                    false => Some(until),
                };
                self.wake_at(until);
                self.out.push(Output::Store {
                    name: stored,
                    session: session.clone(),
                });
                if doubtful {
                    if let Some(connection) = self.connections.get_mut(&conn) {
                        connection.claims.remove(&key.id);
                    }
                    let text = "has arrived, and is kept; it is not known whether it is whole";
                    self.log_of(&key, Level::Warning, text);
                    let error = not_verified(&key);
                    self.send(conn, Answer::Error { error, id });
                    return;
                }
                self.log_of(&key, Level::Info, "is claimed");
                if there {
                    self.send_session(conn, Answer::Claimed { id: key.id }, session);
                }
                return;
            }
            Err(error) => error,
        };
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.claims.remove(&key.id);
        }
        let code = match &error {
            DeviceError::Unknown => Code::NothingToClaim,
            DeviceError::Damaged => Code::Damaged,
            DeviceError::Taken => Code::InUse,
            _ => Code::Device,
        };
        let message = format!("{}: {error}", key.id);
        match error {
            DeviceError::Unknown | DeviceError::Damaged => {
                if self.arrivals_known {
                    let text = format!("{} is lost: {error}", key.session());
                    self.log(Level::Warning, text);
                }
                self.arrived.remove(&key);
                self.note();
            }
            _ => arrived.state = Arrivedness::Waiting,
        }
        let error = Problem { code, message };
        self.send(conn, Answer::Error { error, id });
    }

    pub(super) fn finished(&mut self, conn: Conn, key: Key) -> Result<(), Problem> {
        match self.arrived.get(&key).map(|arrived| &arrived.state) {
            Some(Arrivedness::Held { by, .. }) if *by == Some(conn) => {}
            _ => {
                let text = format!("{} is not claimed on this connection", key.id);
                return Err(problem(Code::WrongState, text));
            }
        }
        self.forget(&key);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.claims.remove(&key.id);
        }
        self.log_of(&key, Level::Info, "is finished");
        self.send(conn, Answer::Ok { id: key.id });
        Ok(())
    }

    /// Drops a session that is held, which finishes it if nobody else has it.
    fn forget(&mut self, key: &Key) {
        let arrived = self.arrived.remove(key);
        if let Some(Arrivedness::Held { stored, .. }) = arrived.map(|arrived| arrived.state) {
            self.out.push(Output::Unstore { name: stored });
        }
        self.note();
    }

    pub(super) fn discarded(&mut self, key: &Key, result: Result<(), DeviceError>) {
        let Some(arrived) = self.arrived.get_mut(key) else {
            return;
        };
        if !matches!(arrived.state, Arrivedness::Discarding) {
            return;
        }
        match result {
            Ok(()) | Err(DeviceError::Unknown | DeviceError::Damaged) => {
                self.arrived.remove(key);
                self.note();
            }
            Err(error) => {
                // It is tried again when its time comes again.
                let until = self.now.saturating_add(self.rules.claim_limit);
                arrived.until = Some(until);
                self.wake_at(until);
                let text = format!("{} cannot be finished: {error}", key.session());
                self.log(Level::Warning, text);
            }
        }
    }

    /// A connection is gone: what it had claimed and not finished can be claimed again.
    pub(super) fn unclaim(&mut self, conn: Conn, uid: u32, claims: BTreeSet<Id>) {
        self.early.retain(|(other, ..)| *other != conn);
        let until = self.now.saturating_add(self.rules.claim_limit);
        for id in claims {
            let Some(arrived) = self.arrived.get_mut(&Key { uid, id }) else {
                continue;
            };
            if let Arrivedness::Held { by, .. } = &mut arrived.state {
                if *by == Some(conn) {
                    *by = None;
                    arrived.until = Some(until);
                    self.wake_at(until);
                }
            }
        }
    }

    pub(super) fn tick_arrivals(&mut self) {
        let now = self.now;
        if self.boot_again.is_some_and(|at| at <= now) {
            self.boot_again = None;
            self.out.push(Output::Device(Op::Boot));
        }
        let due = |arrived: &Arrived<S>| arrived.until.is_some_and(|until| until <= now);
        let late = self.arrived.iter().filter(|(_, arrived)| due(arrived));
        let late: Vec<Key> = late.map(|(key, _)| key.clone()).collect();
        for key in late {
            self.unclaimed(&key);
        }
    }

    fn unclaimed(&mut self, key: &Key) {
        let policy = self.rules.unclaimed;
        let Some(arrived) = self.arrived.get_mut(key) else {
            return;
        };
        arrived.until = None;
        let held = match arrived.state {
            Arrivedness::Discarding => {
                self.out.push(Output::Device(Op::Discard(key.clone())));
                return;
            }
            Arrivedness::Retrieving { .. } => return,
            Arrivedness::Held { by: Some(_), .. } => return,
            Arrivedness::Held { .. } => true,
            Arrivedness::Waiting => false,
        };
        let name = key.session();
        match (policy, held) {
            (Unclaimed::Keep, _) => {
                self.log(
                    Level::Warning,
                    format!("{name} has not been claimed in time; it is kept"),
                );
            }
            (Unclaimed::Finish, true) => {
                self.forget(key);
                self.log(
                    Level::Warning,
                    format!("{name} has not been claimed in time, and is finished"),
                );
            }
            (Unclaimed::Finish, false) => {
                arrived.state = Arrivedness::Discarding;
                self.out.push(Output::Device(Op::Discard(key.clone())));
                self.log(
                    Level::Warning,
                    format!("{name} has not been claimed in time, and is finished"),
                );
            }
        }
    }

    pub(super) fn next_arrivals_tick(&self) -> Option<Millis> {
        let arrived = self.arrived.values().filter_map(|arrived| arrived.until);
        arrived.chain(self.boot_again).min()
    }

    /// Has what is left noted down for a luod after this one. Before this one knows what that is,
    /// the note of the luod before it stands: it may be the only one that says so. So does one that
    /// this luod cannot read, but another may.
    fn note(&mut self) {
        if matches!(self.stage, Stage::Starting { .. }) || !self.arrivals_known {
            return;
        }
        let keys = self.arrived.iter().map(|(key, arrived)| {
            let complete = !matches!(arrived.state, Arrivedness::Discarding);
            (key, complete)
        });
        let catalogue = entries(keys);
        self.out.push(Output::Note(catalogue));
    }
}

fn not_verified(key: &Key) -> Problem {
    problem(
        Code::Damaged,
        format!(
            "{} has arrived, but luod's record of it is lost: nobody knows whether it is whole \
             (a CLAIM with \"unverified\" gets it)",
            key.id
        ),
    )
}
