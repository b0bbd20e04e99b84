// SPDX-License-Identifier: GPL-2.0
//! How an update ends before the kexec: its record is made, or it is called off; and what happens
//! when time is over.

use super::update::{Share, Stage};
use super::MAX_REASON;
use super::{entries, plain, problem, Conn, Key, Level, Machine, Millis, Op, Output, Record};
use crate::device::DeviceError;
use crate::kept::Kept;
use luo_client::{Answer, Code, Problem};

impl<S: Clone> Machine<S> {
    pub(super) fn freeze(&mut self, conn: Conn, hold: bool) -> Result<(), Problem> {
        match self.stage {
            // A driver that knows of one phase only: the other one is gone through on its behalf.
            Stage::Prepared { driver, .. } if driver == conn => {
                self.begin_stop(conn, None, Some(hold));
                Ok(())
            }
            Stage::Stopped { driver, .. } if driver == conn => {
                self.make_record(conn, hold);
                Ok(())
            }
            _ => {
                let text = "there is no update of yours that is prepared";
                Err(problem(Code::WrongState, text))
            }
        }
    }

    /// Has it noted down who goes to the next kernel.
    pub(super) fn make_record(&mut self, driver: Conn, hold: bool) {
        let complete = self.subs.iter().filter(|(_, sub)| sub.share.is_ready());
        let complete = complete.map(|(key, _)| (key, true));
        // Who does not take part may have a session open all the same, of this update or an earlier
        // one: then it arrives, and must not be taken for whole.
        let ready = |key: &Key| self.subs.get(key).is_some_and(|sub| sub.share.is_ready());
        let incomplete = self.left_out.iter().filter(|key| !ready(key));
        let catalogue = entries(complete.chain(incomplete.map(|key| (key, false))));
        self.stage = Stage::Freezing { driver, hold };
        self.out
            .push(Output::Device(Op::Freeze(catalogue, self.epoch)));
    }

    pub(super) fn frozen(&mut self, epoch: u64, result: Result<S, DeviceError>) {
        let Stage::Freezing { driver, hold } = self.stage else {
            return;
        };
        if epoch != self.epoch {
            return;
        }
        let session = match result {
            Ok(session) => session,
            Err(error) => {
                self.call_off(&format!("luod's own record: {error}"));
                return;
            }
        };
        let name = Kept::Record { held: hold }.name(&self.boot);
        self.out.push(Output::Store {
            name: name.clone(),
            session: session.clone(),
        });
        let until = self.now.saturating_add(self.rules.driver_limit);
        self.wake_at(until);
        self.stage = Stage::Frozen {
            driver: Some(driver),
            hold,
            until,
            record: Record {
                session,
                stored: name,
            },
        };
        let sessions = self.ready_count();
        let text = format!("frozen: {sessions} sessions go to the next kernel");
        self.log(Level::Info, text);
        self.send(driver, Answer::Frozen { sessions });
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

    /// Root calls the update off: its driver may, and others only when there is none, or if they
    /// say that they mean it.
    pub(super) fn call_off_for(&mut self, conn: Conn, why: &str, any: bool) -> Result<(), Problem> {
        if matches!(self.stage, Stage::Starting { .. }) {
            let text = "luod does not know yet whether there is an update; try again";
            return Err(problem(Code::WrongState, text));
        }
        let driver = self.driver();
        if driver.is_some_and(|driver| driver != conn) && !any {
            let text = format!("{}; CALL_OFF calls it off", self.under_way());
            return Err(problem(Code::InUse, text));
        }
        let mut why = plain(why, MAX_REASON);
        if why.is_empty() {
            "it was called off".clone_into(&mut why);
        }
        if driver != Some(conn) && !matches!(self.stage, Stage::Operating) {
            why = format!("{why} (by {})", self.who(conn));
        }
        self.call_off(&why);
        if driver != Some(conn) {
            self.send(conn, Answer::Aborted { reason: why });
        }
        Ok(())
    }

    /// luod is to end: what goes nowhere without it is undone.
    pub fn stop(&mut self) {
        self.call_off("luod is stopped");
        self.give_up("luod is stopped");
    }

    /// Undoes everything since PREPARE, in reverse order.
    pub(super) fn call_off(&mut self, why: &str) {
        let driver = self.driver();
        match std::mem::replace(&mut self.stage, Stage::Operating) {
            starting @ Stage::Starting { .. } => {
                self.stage = starting;
                return;
            }
            Stage::Operating if self.orphans_until.is_none() => return,
            Stage::Frozen { record, .. } => {
                self.out.push(Output::Unstore {
                    name: record.stored,
                });
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
            if share.is_given() {
                told.extend(sub.conn.map(|conn| (conn, key.id.clone())));
            }
            if let Share::Ready { stored, .. } = share {
                self.out.push(Output::Unstore { name: stored });
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
                self.drop_late(Share::is_pending, "its time is over");
            }
            Stage::Stopping { until, .. } if until <= now => {
                let late =
                    |share: &Share<S>| matches!(share, Share::Prepared(_) | Share::Stopping { .. });
                self.drop_late(late, "it did not stand still in time");
            }
            Stage::Prepared { until, .. }
            | Stage::Stopped { until, .. }
            | Stage::Frozen {
                until, hold: false, ..
            } if until <= now => {
                self.call_off("who drives the update does not go on");
            }
            _ => {}
        }
        if matches!(self.stage, Stage::Preparing { .. }) {
            let due = |share: &Share<S>| matches!(share, Share::Again(at) if *at <= now);
            let again = self.subs.iter().filter(|(_, sub)| due(&sub.share));
            let again: Vec<Key> = again.map(|(key, _)| key.clone()).collect();
            for key in again {
                self.ask(&key);
            }
        }
        // While it is not known whether a frozen update goes on, nobody can have gone on with it.
        let starting = matches!(self.stage, Stage::Starting { .. });
        if !starting && self.orphans_until.is_some_and(|until| until <= now) {
            self.log(
                Level::Warning,
                "nobody goes on with the update that was under way when luod was restarted".into(),
            );
            self.give_up("luod was restarted, and nobody went on with the update");
        }
    }

    /// Time is over: those that are late are told so, and do not take part.
    fn drop_late(&mut self, late: impl Fn(&Share<S>) -> bool, why: &str) {
        let all = self.subs.iter().filter(|(_, sub)| late(&sub.share));
        let all: Vec<Key> = all.map(|(key, _)| key.clone()).collect();
        for key in all {
            // The first one may have called all off.
            if !self.stage.is_open() {
                break;
            }
            let Some(sub) = self.subs.get(&key) else {
                continue;
            };
            if let Some(conn) = sub.conn {
                let id = Some(key.id.clone());
                let reason = why.to_owned();
                self.send(conn, Answer::Abort { id, reason });
            }
            self.drop_out(&key, why);
        }
    }

    pub(super) fn next_update_tick(&self) -> Option<Millis> {
        let stage = match self.stage {
            Stage::Preparing { until, .. }
            | Stage::Prepared { until, .. }
            | Stage::Stopping { until, .. }
            | Stage::Stopped { until, .. }
            | Stage::Frozen {
                until, hold: false, ..
            } => Some(until),
            _ => None,
        };
        let starting = matches!(self.stage, Stage::Starting { .. });
        let again = self.subs.values().filter_map(|sub| match sub.share {
            Share::Again(at) => Some(at),
            _ => None,
        });
        stage
            .into_iter()
            .chain(self.orphans_until.filter(|_| !starting))
            .chain(again)
            .min()
    }
}
