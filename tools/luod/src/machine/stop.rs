// SPDX-License-Identifier: GPL-2.0
//! The second phase of an update: who has been preserved while it ran stands still, one after the
//! other in their order. This is what users of a service feel, so it has a deadline of its own, and
//! is measured.

use super::update::{Share, Stage, Sub};
use super::{problem, Conn, Key, Level, Machine, Millis};
use luo_client::{Answer, Code, Problem};

impl<S: Clone> Machine<S> {
    /// The driver wants all to stand still.
    pub(super) fn stop_all(&mut self, conn: Conn, deadline: Option<Millis>) -> Result<(), Problem> {
        match self.stage {
            Stage::Prepared { driver, .. } if driver == conn => {
                self.begin_stop(conn, deadline, None);
                Ok(())
            }
            _ => {
                let text = "there is no update of yours that is prepared";
                Err(problem(Code::WrongState, text))
            }
        }
    }

    pub(super) fn begin_stop(
        &mut self,
        driver: Conn,
        deadline: Option<Millis>,
        freeze: Option<bool>,
    ) {
        let deadline = deadline.unwrap_or(self.rules.stop_deadline);
        let until = self.now.saturating_add(deadline);
        let runs = |sub: &&Sub<S>| matches!(sub.share, Share::Prepared(_));
        let count = self.subs.values().filter(runs).count() as u64;
        self.stage = Stage::Stopping {
            driver,
            began: self.now,
            until,
            count,
            freeze,
        };
        self.wake_at(until);
        if freeze.is_none() {
            self.send(driver, Answer::Stopping { clients: count });
        }
        self.check_stopped();
    }

    /// A client stands still.
    pub(super) fn stopped(&mut self, conn: Conn, key: Key) -> Result<(), Problem> {
        self.own(conn, &key)?;
        let share = self.subs.get(&key).map(|sub| &sub.share);
        let Some(Share::Stopping { session, since }) = share else {
            let text = format!("{} has not been told to stop, or its time is over", key.id);
            return Err(problem(Code::WrongState, text));
        };
        let (session, since) = (session.clone(), *since);
        self.is_ready(&key, session);
        self.send(conn, Answer::Ok { id: key.id.clone() });
        if let Stage::Stopping {
            driver,
            freeze: None,
            ..
        } = self.stage
        {
            let (id, uid) = (key.id, key.uid);
            let ms = self.now.saturating_sub(since);
            self.send(driver, Answer::ClientStopped { id, uid, ms });
        }
        self.check_stopped();
        Ok(())
    }

    /// If nobody is waited for, tells those that come next; if there are none, goes on.
    pub(super) fn check_stopped(&mut self) {
        let Stage::Stopping {
            driver,
            began,
            until,
            count,
            freeze,
        } = self.stage
        else {
            return;
        };
        let waited_for = |sub: &Sub<S>| matches!(sub.share, Share::Stopping { .. });
        if self.subs.values().any(waited_for) {
            return;
        }
        let runs = |(_, sub): &(&Key, &mut Sub<S>)| matches!(sub.share, Share::Prepared(_));
        let next = self
            .subs
            .iter_mut()
            .filter(runs)
            .map(|(_, sub)| sub.wish.order)
            .min();
        if let Some(order) = next {
            let deadline_ms = until.saturating_sub(self.now);
            let since = self.now;
            let mut told = Vec::new();
            for (key, sub) in self.subs.iter_mut().filter(runs) {
                if sub.wish.order != order {
                    continue;
                }
                if let Share::Prepared(session) = std::mem::replace(&mut sub.share, Share::None) {
                    sub.share = Share::Stopping { session, since };
                    told.extend(sub.conn.map(|conn| (conn, key.id.clone())));
                }
            }
            for (conn, id) in told {
                self.send(conn, Answer::Stop { id, deadline_ms });
            }
            return;
        }
        let ms = self.now.saturating_sub(began);
        if count > 0 {
            let text = format!("{count} clients were told to stop, and stand still after {ms} ms");
            self.log(Level::Info, text);
        }
        if let Some(hold) = freeze {
            self.make_record(driver, hold);
            return;
        }
        let until = self.now.saturating_add(self.rules.stop_deadline);
        self.wake_at(until);
        self.stage = Stage::Stopped { driver, until };
        let answer = Answer::Stopped {
            stopped: count,
            left_out: self.left_out.len() as u64,
            ms,
        };
        self.send(driver, answer);
    }
}
