// SPDX-License-Identifier: GPL-2.0
//! Before the kexec: who takes part, and the steps of an update, each of which can be undone.

use super::{entries, problem, Conn, Key, Level, Machine, Millis, Op, Output};
use super::{STORED_OUT, STORED_RECORD, STORED_RECORD_HELD};
use crate::device::DeviceError;
use luo_client::{Answer, Code, Outcome, Part, Phase, Problem};

/// How long to wait before a session is asked for again whose name is taken: its owner may just be closing an earlier one.
const AGAIN: Millis = 100;

/// Where an update is.
pub(super) enum Stage<S> {
    /// What has arrived is not known yet. Of a luod before us there may be a record that is held.
    Starting { held: Option<S> },
    /// There is none.
    Operating,
    /// Clients have been asked.
    Preparing {
        driver: Conn,
        began: Millis,
        until: Millis,
        strict: bool,
    },
    /// All have answered.
    Prepared { driver: Conn, until: Millis },
    /// The record is being made.
    Freezing { driver: Conn, hold: bool },
    /// The record is made; `_record` is what keeps it.
    Frozen {
        driver: Option<Conn>,
        hold: bool,
        until: Millis,
        _record: S,
    },
}

impl<S> Stage<S> {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Starting { .. } => Phase::Starting,
            Self::Operating => Phase::Operating,
            Self::Preparing { .. } => Phase::Preparing,
            Self::Prepared { .. } => Phase::Prepared,
            Self::Freezing { .. } => Phase::Freezing,
            Self::Frozen { .. } => Phase::Frozen,
        }
    }
}

/// An id that takes part in updates.
pub(super) struct Sub<S> {
    /// Whose; none when it is preserved and its process gone.
    pub(super) conn: Option<Conn>,
    pub(super) share: Share<S>,
}

/// Its share in the update that is under way.
pub(super) enum Share<S> {
    /// None yet, or no longer.
    None,
    /// Its session is being made.
    Creating,
    /// Its session's name is taken; try again then.
    Again(Millis),
    /// It has been given the session.
    Started(S),
    /// It has said that all is in.
    Ready(S),
}

impl<S> Share<S> {
    pub(super) fn part(&self) -> Part {
        match self {
            Self::None => Part::Subscribed,
            Self::Creating | Self::Again(_) | Self::Started(_) => Part::Asked,
            Self::Ready(_) => Part::Ready,
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self, Self::Creating | Self::Again(_) | Self::Started(_))
    }
}

fn stored(key: &Key) -> String {
    format!("{STORED_OUT}{}", key.session())
}

impl<S: Clone> Machine<S> {
    pub(super) fn subscribe(&mut self, conn: Conn, key: Key) -> Result<(), Problem> {
        let of_user = || {
            let same = self.subs.keys().filter(|other| other.uid == key.uid);
            same.count()
        };
        let known = self.subs.get(&key);
        if known.is_some_and(|sub| sub.conn.is_some_and(|other| other != conn)) {
            let text = format!("another connection has the id {}", key.id);
            return Err(problem(Code::InUse, text));
        }
        if known.is_none() {
            let most = self.rules.subscriptions_per_user;
            if self.subs.len() >= self.rules.subscriptions || (key.uid != 0 && of_user() >= most) {
                return Err(problem(Code::TooMany, "there are too many subscriptions"));
            }
        }
        let Some(connection) = self.connections.get_mut(&conn) else {
            return Ok(());
        };
        if !connection.ids.contains(&key.id)
            && connection.ids.len() >= self.rules.ids_per_connection
        {
            return Err(problem(Code::TooMany, "a connection cannot have more ids"));
        }
        connection.ids.insert(key.id.clone());
        let sub = self.subs.entry(key.clone()).or_insert(Sub {
            conn: None,
            share: Share::None,
        });
        sub.conn = Some(conn);
        let preserved = matches!(sub.share, Share::Ready(_));
        let fresh = matches!(sub.share, Share::None);
        let claimable = self.claimable(&key);
        self.send(
            conn,
            Answer::Subscribed {
                id: key.id.clone(),
                claimable,
                preserved,
            },
        );
        // One that comes late takes part too. The list of those that do not has a bound.
        let room = self.left_out.len() < 2 * self.rules.subscriptions;
        if fresh && room && matches!(self.stage, Stage::Preparing { .. }) {
            self.left_out.remove(&key);
            self.ask(&key);
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, conn: Conn, key: Key) -> Result<(), Problem> {
        self.own(conn, &key)?;
        if matches!(self.stage, Stage::Freezing { .. } | Stage::Frozen { .. }) {
            return Err(problem(Code::WrongState, "it is too late, all is frozen"));
        }
        if let Some(Sub {
            share: share @ Share::Ready(_),
            ..
        }) = self.subs.get_mut(&key)
        {
            // It is alive, and does not want it: unlike a connection that ends.
            *share = Share::None;
            self.out.push(Output::Unstore { name: stored(&key) });
            self.left_out.insert(key.clone());
        }
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.ids.remove(&key.id);
        }
        self.send(conn, Answer::Ok { id: key.id.clone() });
        self.leave(&key, "it has unsubscribed");
        Ok(())
    }

    /// The connection has subscribed this id.
    fn own(&self, conn: Conn, key: &Key) -> Result<(), Problem> {
        match self.subs.get(key) {
            Some(sub) if sub.conn == Some(conn) => Ok(()),
            _ => Err(problem(
                Code::WrongState,
                format!("{} is not subscribed on this connection", key.id),
            )),
        }
    }

    /// An id has no connection any more. What is ready stays: services may well be stopped before the kexec.
    pub(super) fn leave(&mut self, key: &Key, why: &str) {
        let Some(sub) = self.subs.get_mut(key) else {
            return;
        };
        if matches!(sub.share, Share::Ready(_)) {
            sub.conn = None;
            return;
        }
        let pending = sub.share.is_pending();
        if pending {
            self.leave_out(key, why);
        }
        self.subs.remove(key);
        if pending {
            self.check_prepared();
        }
    }

    pub(super) fn prepare(
        &mut self,
        driver: Conn,
        deadline: Option<Millis>,
        strict: bool,
        force: bool,
    ) -> Result<(), Problem> {
        match self.stage {
            Stage::Operating => {}
            Stage::Starting { .. } => {
                let text = "luod has not read yet what the previous kernel left; try again";
                return Err(problem(Code::WrongState, text));
            }
            _ => {
                let text = "an update is under way already; ABORT calls it off";
                return Err(problem(Code::WrongState, text));
            }
        }
        let names: Vec<String> = self.arrived.keys().map(Key::session).take(8).collect();
        if !names.is_empty() && !force {
            let text = format!(
                "{} of the last update not finished by their owners, and would be lost: {}",
                self.arrived.len(),
                names.join(", ")
            );
            return Err(problem(Code::Unclaimed, text));
        }
        self.epoch += 1;
        self.orphans_until = None;
        self.left_out.clear();
        let deadline = deadline.unwrap_or(self.rules.deadline);
        self.stage = Stage::Preparing {
            driver,
            began: self.now,
            until: self.now.saturating_add(deadline),
            strict,
        };
        let keys: Vec<Key> = self.subs.keys().cloned().collect();
        let clients = keys.len() as u64;
        self.log(Level::Info, format!("an update: asking {clients} clients"));
        self.wake_at(self.now.saturating_add(deadline));
        self.send(driver, Answer::Preparing { clients });
        for key in keys {
            let ready = self
                .subs
                .get(&key)
                .is_some_and(|sub| matches!(sub.share, Share::Ready(_)));
            if ready {
                self.tell_driver(&key, Outcome::Ready, "");
            } else {
                self.ask(&key);
            }
        }
        self.check_prepared();
        Ok(())
    }

    /// Has a session made for a client.
    fn ask(&mut self, key: &Key) {
        let busy = self.creating.contains(key) || self.creating.len() >= self.rules.subscriptions;
        let again = self.now.saturating_add(AGAIN);
        let Some(sub) = self.subs.get_mut(key) else {
            return;
        };
        if busy {
            sub.share = Share::Again(again);
            self.wake_at(again);
            return;
        }
        sub.share = Share::Creating;
        self.creating.insert(key.clone());
        self.out
            .push(Output::Device(Op::Create(key.clone(), self.epoch)));
    }

    pub(super) fn created(&mut self, key: Key, epoch: u64, result: Result<S, DeviceError>) {
        self.creating.remove(&key);
        let Stage::Preparing { until, .. } = self.stage else {
            return;
        };
        let again = self.now.saturating_add(AGAIN);
        let current = epoch == self.epoch;
        let Some(sub) = self.subs.get_mut(&key) else {
            return;
        };
        if !current || !matches!(sub.share, Share::Creating) {
            return;
        }
        match (result, sub.conn) {
            (Ok(session), Some(conn)) => {
                sub.share = Share::Started(session.clone());
                let answer = Answer::StartPreservation {
                    id: key.id,
                    deadline_ms: until.saturating_sub(self.now),
                };
                self.send_session(conn, answer, session);
            }
            (Err(DeviceError::Exists), Some(_)) => {
                sub.share = Share::Again(again);
                self.wake_at(again);
            }
            (result, _) => {
                let why = match result {
                    Ok(_) => "its connection is gone".to_owned(),
                    Err(error) => error.to_string(),
                };
                self.drop_out(&key, &why);
            }
        }
    }

    pub(super) fn ready(&mut self, conn: Conn, key: Key) -> Result<(), Problem> {
        self.own(conn, &key)?;
        let share = self.subs.get_mut(&key).map(|sub| &mut sub.share);
        let Some(share) = share else { return Ok(()) };
        let Share::Started(session) = share else {
            let text = format!("{} has not been asked, or its time is over", key.id);
            return Err(problem(Code::WrongState, text));
        };
        let session = session.clone();
        *share = Share::Ready(session.clone());
        self.out.push(Output::Store {
            name: stored(&key),
            session,
        });
        self.send(conn, Answer::Ok { id: key.id.clone() });
        self.tell_driver(&key, Outcome::Ready, "");
        self.check_prepared();
        Ok(())
    }

    /// A client cannot.
    pub(super) fn decline(&mut self, conn: Conn, key: Key, why: &str) -> Result<(), Problem> {
        self.own(conn, &key)?;
        let share = self.subs.get(&key).map(|sub| &sub.share);
        let possible = match (share, &self.stage) {
            (Some(share), _) if share.is_pending() => true,
            (Some(Share::Ready(_)), stage) => {
                !matches!(stage, Stage::Freezing { .. } | Stage::Frozen { .. })
            }
            _ => false,
        };
        if !possible {
            let text = format!("{} has nothing to call off, or it is too late", key.id);
            return Err(problem(Code::WrongState, text));
        }
        self.send(conn, Answer::Ok { id: key.id.clone() });
        let why: String = why.chars().take(200).collect();
        self.drop_out(&key, &format!("it cannot: {why}"));
        Ok(())
    }

    /// The update goes on without a client, which is told if it has a session.
    fn drop_out(&mut self, key: &Key, why: &str) {
        self.leave_out(key, why);
        if let Some(sub) = self.subs.get_mut(key) {
            sub.share = Share::None;
            if sub.conn.is_none() {
                self.subs.remove(key);
            }
        }
        self.check_prepared();
    }

    /// Takes note that a client does not take part.
    fn leave_out(&mut self, key: &Key, why: &str) {
        let share = self.subs.get(key).map(|sub| &sub.share);
        if matches!(share, Some(Share::Ready(_))) {
            self.out.push(Output::Unstore { name: stored(key) });
        }
        self.left_out.insert(key.clone());
        self.log(
            Level::Warning,
            format!("{} does not take part: {why}", key.session()),
        );
        self.tell_driver(key, Outcome::LeftOut, why);
        if let Stage::Preparing { strict: true, .. } = self.stage {
            self.call_off(&format!("{} does not take part: {why}", key.session()));
        }
    }

    fn driver(&self) -> Option<Conn> {
        match self.stage {
            Stage::Preparing { driver, .. }
            | Stage::Prepared { driver, .. }
            | Stage::Freezing { driver, .. } => Some(driver),
            Stage::Frozen { driver, .. } => driver,
            Stage::Starting { .. } | Stage::Operating => None,
        }
    }

    fn tell_driver(&mut self, key: &Key, outcome: Outcome, why: &str) {
        let Stage::Preparing { driver, began, .. } = self.stage else {
            return;
        };
        let answer = Answer::Client {
            id: key.id.clone(),
            uid: key.uid,
            outcome,
            reason: why.to_owned(),
            ms: self.now.saturating_sub(began),
        };
        self.send(driver, answer);
    }

    /// If nobody is waited for any more, says so.
    fn check_prepared(&mut self) {
        let Stage::Preparing { driver, .. } = self.stage else {
            return;
        };
        // Looking at all of them each time one answers would take long: it goes on where it was.
        let pending = |(_, sub): &(&Key, &Sub<S>)| sub.share.is_pending();
        let later = match &self.waited_for {
            Some(key) => self.subs.range(key..).find(pending),
            None => None,
        };
        let waited_for = later.or_else(|| self.subs.iter().find(pending));
        self.waited_for = waited_for.map(|(key, _)| key.clone());
        if self.waited_for.is_some() {
            return;
        }
        let until = self.now.saturating_add(self.rules.driver_limit);
        self.wake_at(until);
        self.stage = Stage::Prepared { driver, until };
        let answer = Answer::Prepared {
            ready: self.ready_count(),
            left_out: self.left_out.len() as u64,
        };
        self.send(driver, answer);
    }

    fn ready_count(&self) -> u64 {
        let ready = |sub: &&Sub<S>| matches!(sub.share, Share::Ready(_));
        self.subs.values().filter(ready).count() as u64
    }

    pub(super) fn freeze(&mut self, conn: Conn, hold: bool) -> Result<(), Problem> {
        match self.stage {
            Stage::Prepared { driver, .. } if driver == conn => {}
            _ => {
                let text = "there is no update of yours that is prepared";
                return Err(problem(Code::WrongState, text));
            }
        }
        let complete = self
            .subs
            .iter()
            .filter(|(_, sub)| matches!(sub.share, Share::Ready(_)))
            .map(|(key, _)| (key, true));
        // Who does not take part may have a session open all the same, of this update or an earlier one: then it arrives, and must
        // not be taken for whole.
        let incomplete = self
            .left_out
            .iter()
            .filter(|key| {
                let again = self.subs.get(*key).map(|sub| &sub.share);
                !matches!(again, Some(Share::Ready(_)))
            })
            .map(|key| (key, false));
        let catalogue = entries(complete.chain(incomplete));
        self.stage = Stage::Freezing { driver: conn, hold };
        self.out
            .push(Output::Device(Op::Freeze(catalogue, self.epoch)));
        Ok(())
    }

    pub(super) fn frozen(&mut self, epoch: u64, result: Result<S, DeviceError>) {
        let Stage::Freezing { driver, hold } = self.stage else {
            return;
        };
        if epoch != self.epoch {
            return;
        }
        match result {
            Ok(record) => {
                let name = if hold {
                    STORED_RECORD_HELD
                } else {
                    STORED_RECORD
                };
                self.out.push(Output::Store {
                    name: name.to_owned(),
                    session: record.clone(),
                });
                self.wake_at(self.now.saturating_add(self.rules.driver_limit));
                self.stage = Stage::Frozen {
                    driver: Some(driver),
                    hold,
                    until: self.now.saturating_add(self.rules.driver_limit),
                    _record: record,
                };
                let sessions = self.ready_count();
                self.log(
                    Level::Info,
                    format!("frozen: {sessions} sessions go to the next kernel"),
                );
                self.send(driver, Answer::Frozen { sessions });
            }
            Err(error) => self.call_off(&format!("luod's own record: {error}")),
        }
    }

    pub(super) fn driver_gone(&mut self, conn: Conn) {
        if self.driver() != Some(conn) {
            return;
        }
        if let Stage::Frozen {
            driver, hold: true, ..
        } = &mut self.stage
        {
            *driver = None;
            return;
        }
        self.call_off("who drove the update is gone");
    }

    pub(super) fn call_off_for(&mut self, conn: Conn, why: &str) {
        let why: String = why.chars().take(200).collect();
        let why = if why.is_empty() {
            "it was called off".to_owned()
        } else {
            why
        };
        let driver = self.driver();
        self.call_off(&why);
        if driver != Some(conn) {
            self.send(conn, Answer::Aborted { reason: why });
        }
    }

    /// luod is to end: what goes nowhere without it is undone.
    pub fn stop(&mut self) {
        self.call_off("luod is stopped");
        self.give_up("luod is stopped");
    }

    /// Undoes everything since PREPARE, in reverse order.
    fn call_off(&mut self, why: &str) {
        let driver = self.driver();
        match std::mem::replace(&mut self.stage, Stage::Operating) {
            starting @ Stage::Starting { .. } => {
                self.stage = starting;
                return;
            }
            Stage::Frozen { hold, .. } => {
                let name = if hold {
                    STORED_RECORD_HELD
                } else {
                    STORED_RECORD
                };
                let name = name.to_owned();
                self.out.push(Output::Unstore { name });
            }
            _ => {}
        }
        self.epoch += 1;
        self.left_out.clear();
        self.log(Level::Warning, format!("the update is called off: {why}"));
        self.give_up(why);
        if let Some(driver) = driver {
            let reason = why.to_owned();
            self.send(driver, Answer::Aborted { reason });
        }
    }

    /// Drops all outgoing sessions, and tells their owners.
    fn give_up(&mut self, why: &str) {
        let mut told = Vec::new();
        for (key, sub) in &mut self.subs {
            let share = std::mem::replace(&mut sub.share, Share::None);
            if matches!(share, Share::Ready(_)) {
                self.out.push(Output::Unstore { name: stored(key) });
            }
            if matches!(share, Share::Started(_) | Share::Ready(_)) {
                told.extend(sub.conn.map(|conn| (conn, key.id.clone())));
            }
        }
        self.subs.retain(|_, sub| sub.conn.is_some());
        self.orphans_until = None;
        for (conn, id) in told {
            let reason = why.to_owned();
            self.send(
                conn,
                Answer::Abort {
                    id: Some(id),
                    reason,
                },
            );
        }
    }

    pub(super) fn tick_update(&mut self) {
        let now = self.now;
        match self.stage {
            Stage::Preparing { until, .. } if until <= now => {
                let late: Vec<(Key, Option<Conn>)> = self
                    .subs
                    .iter()
                    .filter(|(_, sub)| sub.share.is_pending())
                    .map(|(key, sub)| (key.clone(), sub.conn))
                    .collect();
                for (key, conn) in late {
                    // The first one may have called all off.
                    if !matches!(self.stage, Stage::Preparing { .. }) {
                        break;
                    }
                    if let Some(conn) = conn {
                        let id = Some(key.id.clone());
                        let reason = "its time is over".to_owned();
                        self.send(conn, Answer::Abort { id, reason });
                    }
                    self.drop_out(&key, "its time is over");
                }
            }
            Stage::Prepared { until, .. }
            | Stage::Frozen {
                until, hold: false, ..
            } if until <= now => {
                self.call_off("who drives the update does not go on");
            }
            _ => {}
        }
        if matches!(self.stage, Stage::Preparing { .. }) {
            let due = |sub: &Sub<S>| matches!(sub.share, Share::Again(at) if at <= now);
            let again = self.subs.iter().filter(|(_, sub)| due(sub));
            let again: Vec<Key> = again.map(|(key, _)| key.clone()).collect();
            for key in again {
                self.ask(&key);
            }
        }
        if self.orphans_until.is_some_and(|until| until <= now) {
            self.log(
                Level::Warning,
                "nobody goes on with the update that was under way when luod was restarted".into(),
            );
            self.give_up("luod was restarted, and nobody went on with the update");
        }
    }

    pub(super) fn next_update_tick(&self) -> Option<Millis> {
        let stage = match self.stage {
            Stage::Preparing { until, .. }
            | Stage::Prepared { until, .. }
            | Stage::Frozen {
                until, hold: false, ..
            } => Some(until),
            _ => None,
        };
        let again = self.subs.values().filter_map(|sub| match sub.share {
            Share::Again(at) => Some(at),
            _ => None,
        });
        stage
            .into_iter()
            .chain(self.orphans_until)
            .chain(again)
            .min()
    }
}
