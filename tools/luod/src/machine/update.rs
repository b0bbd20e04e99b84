// SPDX-License-Identifier: GPL-2.0
//! Before the kexec: who takes part, and the steps of an update, each of which can be undone.

use super::MAX_REASON;
use super::{plain, problem, Conn, Key, Level, Machine, MayRequire, Millis, Op, Output, Record};
use crate::device::DeviceError;
use crate::kept::Kept;
use luo_client::{Answer, Code, Outcome, Part, Phase, Problem, Wish};

/// How long to wait before a session is asked for again whose name is taken: its owner may just be
/// closing an earlier one.
const AGAIN: Millis = 100;

/// Where an update is.
pub(super) enum Stage<S> {
    /// What has arrived is not known yet. Of a luod before us there may be a record that is held.
    Starting { held: Option<Record<S>> },
    /// There is none.
    Operating,
    /// Clients have been asked.
    Preparing {
        driver: Conn,
        began: Millis,
        until: Millis,
    },
    /// All have answered. Those that can run still do.
    Prepared { driver: Conn, until: Millis },
    /// They are told to stand still, in their order. `freeze`, with `hold`, is what comes next if
    /// the driver has said so already; such a driver does not hear of this stage.
    Stopping {
        driver: Conn,
        began: Millis,
        until: Millis,
        count: u64,
        freeze: Option<bool>,
    },
    /// All stand still.
    Stopped { driver: Conn, until: Millis },
    /// The record is being made.
    Freezing { driver: Conn, hold: bool },
    /// The record is made.
    Frozen {
        driver: Option<Conn>,
        hold: bool,
        until: Millis,
        record: Record<S>,
    },
}

impl<S> Stage<S> {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Starting { .. } => Phase::Starting,
            Self::Operating => Phase::Operating,
            Self::Preparing { .. } => Phase::Preparing,
            Self::Prepared { .. } => Phase::Prepared,
            Self::Stopping { .. } => Phase::Stopping,
            Self::Stopped { .. } => Phase::Stopped,
            Self::Freezing { .. } => Phase::Freezing,
            Self::Frozen { .. } => Phase::Frozen,
        }
    }

    /// Clients may still drop out of it, or be what it is called off for.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Preparing { .. }
            | Self::Prepared { .. }
            | Self::Stopping { .. }
            | Self::Stopped { .. } => true,
            Self::Starting { .. }
            | Self::Operating
            | Self::Freezing { .. }
            | Self::Frozen { .. } => false,
        }
    }
}

/// An id that takes part in updates.
pub(super) struct Sub<S> {
    /// Whose; none when it is preserved and its process gone.
    pub(super) conn: Option<Conn>,
    pub(super) wish: Wish,
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
    /// What it has is preserved, and it runs until it is told to stand still. Without its process
    /// this is nothing.
    Prepared(S),
    /// It is told to stand still, since then.
    Stopping { session: S, since: Millis },
    /// It has said that all is in. The service manager has it too, under this name.
    Ready {
        #[expect(dead_code, reason = "it is open as long as this is there")]
        session: S,
        stored: String,
    },
}

impl<S> Share<S> {
    pub(super) fn part(&self) -> Part {
        match self {
            Self::None => Part::Subscribed,
            Self::Creating | Self::Again(_) | Self::Started(_) => Part::Asked,
            Self::Prepared(_) => Part::Prepared,
            Self::Stopping { .. } => Part::Stopping,
            Self::Ready { .. } => Part::Ready,
        }
    }

    /// It is waited for before all are prepared.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Self::Creating | Self::Again(_) | Self::Started(_))
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// Its client has the session.
    pub(super) fn is_given(&self) -> bool {
        matches!(
            self,
            Self::Started(_) | Self::Prepared(_) | Self::Stopping { .. } | Self::Ready { .. }
        )
    }
}

impl<S: Clone> Machine<S> {
    pub(super) fn subscribe(
        &mut self,
        conn: Conn,
        key: Key,
        mut wish: Wish,
    ) -> Result<(), Problem> {
        wish.required &= key.uid == 0 || self.rules.may_require == MayRequire::Members;
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
            wish,
            share: Share::None,
        });
        sub.conn = Some(conn);
        let preserved = sub.share.is_ready();
        let fresh = sub.share.is_none();
        if fresh || preserved {
            sub.wish = wish;
        }
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
        if !fresh {
            return Ok(());
        }
        if room && matches!(self.stage, Stage::Preparing { .. }) {
            self.left_out.remove(&key);
            self.ask(&key);
        } else if wish.required && self.stage.is_open() {
            let text = "has come too late to take part, and must live through";
            self.call_off(&format!("{} {text}", key.session()));
        } else if matches!(self.stage, Stage::Freezing { .. } | Stage::Frozen { .. }) {
            let text = "has subscribed, but all is frozen: it does not take part";
            self.log_of(&key, Level::Warning, text);
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, conn: Conn, key: Key) -> Result<(), Problem> {
        self.own(conn, &key)?;
        if matches!(self.stage, Stage::Freezing { .. } | Stage::Frozen { .. }) {
            return Err(problem(Code::WrongState, "it is too late, all is frozen"));
        }
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.ids.remove(&key.id);
        }
        self.send(conn, Answer::Ok { id: key.id.clone() });
        self.checked_without(&key, "it has unsubscribed");
        // It is alive, and does not want it: unlike with a connection that ends, what is ready goes
        // too.
        let Some(sub) = self.subs.remove(&key) else {
            return Ok(());
        };
        if !sub.share.is_none() {
            self.leave_out(&key, sub, "it has unsubscribed");
        }
        Ok(())
    }

    /// The connection has subscribed this id.
    pub(super) fn own(&self, conn: Conn, key: &Key) -> Result<(), Problem> {
        match self.subs.get(key) {
            Some(sub) if sub.conn == Some(conn) => Ok(()),
            _ => Err(problem(
                Code::WrongState,
                format!("{} is not subscribed on this connection", key.id),
            )),
        }
    }

    /// An id has no connection any more. What is ready stays: services may well be stopped before
    /// the kexec.
    pub(super) fn leave(&mut self, key: &Key, why: &str) {
        self.checked_without(key, why);
        let Some(mut sub) = self.subs.remove(key) else {
            return;
        };
        sub.conn = None;
        if sub.share.is_ready() {
            self.subs.insert(key.clone(), sub);
        } else if !sub.share.is_none() {
            self.leave_out(key, sub, why);
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
                let text = format!("{} already", self.under_way());
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
        };
        self.strict = strict || self.rules.strict;
        let keys: Vec<Key> = self.subs.keys().cloned().collect();
        let clients = keys.len() as u64;
        let who = self.who(driver);
        let text = format!("an update, driven by {who}: {clients} clients are asked");
        self.log(Level::Info, text);
        self.wake_at(self.now.saturating_add(deadline));
        self.send(driver, Answer::Preparing { clients });
        for key in keys {
            let ready = |sub: &Sub<S>| sub.share.is_ready();
            if self.subs.get(&key).is_some_and(ready) {
                self.tell_driver(&key, Outcome::Ready, "");
            } else {
                self.ask(&key);
            }
        }
        self.check_prepared();
        Ok(())
    }

    /// Has a session made for a client.
    pub(super) fn ask(&mut self, key: &Key) {
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
        let Some(sub) = self.subs.get_mut(&key) else {
            return Ok(());
        };
        let Share::Started(session) = &sub.share else {
            let text = format!("{} has not been asked, or its time is over", key.id);
            return Err(problem(Code::WrongState, text));
        };
        let session = session.clone();
        if sub.wish.stops {
            sub.share = Share::Prepared(session);
        } else {
            self.is_ready(&key, session);
        }
        self.send(conn, Answer::Ok { id: key.id.clone() });
        self.tell_driver(&key, Outcome::Ready, "");
        self.check_prepared();
        Ok(())
    }

    /// All of a client is in its session: it may end now.
    pub(super) fn is_ready(&mut self, key: &Key, session: S) {
        let name = Kept::Outgoing(key.clone()).name(&self.boot);
        if let Some(sub) = self.subs.get_mut(key) {
            let (session, stored) = (session.clone(), name.clone());
            sub.share = Share::Ready { session, stored };
        }
        self.out.push(Output::Store { name, session });
    }

    /// A client cannot.
    pub(super) fn decline(&mut self, conn: Conn, key: Key, why: &str) -> Result<(), Problem> {
        self.own(conn, &key)?;
        let late = matches!(self.stage, Stage::Freezing { .. } | Stage::Frozen { .. });
        let nothing = |sub: &Sub<S>| sub.share.is_none();
        if late || self.subs.get(&key).is_none_or(nothing) {
            let text = format!("{} has nothing to call off, or it is too late", key.id);
            return Err(problem(Code::WrongState, text));
        }
        self.send(conn, Answer::Ok { id: key.id.clone() });
        self.drop_out(&key, &format!("it cannot: {}", plain(why, MAX_REASON)));
        Ok(())
    }

    /// The update goes on without a client that stays subscribed.
    pub(super) fn drop_out(&mut self, key: &Key, why: &str) {
        let Some(mut sub) = self.subs.remove(key) else {
            return;
        };
        let (conn, wish) = (sub.conn, sub.wish);
        let share = std::mem::replace(&mut sub.share, Share::None);
        if conn.is_some() {
            self.subs.insert(key.clone(), sub);
        }
        self.leave_out(key, Sub { conn, wish, share }, why);
    }

    /// A client does not take part; if that must not be, nobody does.
    fn leave_out(&mut self, key: &Key, sub: Sub<S>, why: &str) {
        if let Share::Ready { stored, .. } = sub.share {
            self.out.push(Output::Unstore { name: stored });
        }
        self.left_out.insert(key.clone());
        self.log_of(key, Level::Warning, &format!("does not take part: {why}"));
        self.tell_driver(key, Outcome::LeftOut, why);
        if (self.strict || sub.wish.required) && self.stage.is_open() {
            let must = match sub.wish.required {
                true => "must live through, and ",
                false => "",
            };
            let text = format!("{} {must}does not take part: {why}", key.session());
            self.call_off(&text);
        }
        self.check_prepared();
        self.check_stopped();
    }

    pub(super) fn driver(&self) -> Option<Conn> {
        match self.stage {
            Stage::Preparing { driver, .. }
            | Stage::Prepared { driver, .. }
            | Stage::Stopping { driver, .. }
            | Stage::Stopped { driver, .. }
            | Stage::Freezing { driver, .. } => Some(driver),
            Stage::Frozen { driver, .. } => driver,
            Stage::Starting { .. } | Stage::Operating => None,
        }
    }

    /// A connection, for people.
    pub(super) fn who(&self, conn: Conn) -> String {
        match self.connections.get(&conn).map(|known| known.peer) {
            Some(peer) => format!("process {} of user {}", peer.pid, peer.uid),
            None => "somebody who is gone".to_owned(),
        }
    }

    /// That an update is under way, and whose it is.
    pub(super) fn under_way(&self) -> String {
        match self.driver() {
            Some(driver) => format!("an update is under way, driven by {}", self.who(driver)),
            None => "an update is under way, and waits for the kexec".to_owned(),
        }
    }

    pub(super) fn tell_driver(&mut self, key: &Key, outcome: Outcome, why: &str) {
        let (driver, began) = match self.stage {
            Stage::Preparing { driver, began, .. }
            | Stage::Stopping {
                driver,
                began,
                freeze: None,
                ..
            } => (driver, began),
            _ => return,
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
    pub(super) fn check_prepared(&mut self) {
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

    /// How many go to the next kernel, as things are now.
    pub(super) fn ready_count(&self) -> u64 {
        let part = |sub: &&Sub<S>| matches!(sub.share, Share::Prepared(_)) || sub.share.is_ready();
        self.subs.values().filter(part).count() as u64
    }
}
