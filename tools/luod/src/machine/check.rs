// SPDX-License-Identifier: GPL-2.0
//! Asking who could take part in an update, without stopping or preserving anybody.

use super::{plain, problem, Conn, Key, Machine, Millis, MAX_REASON};
use luo_client::{Answer, Code, Files, Problem, Verdict, Wish};
use std::collections::BTreeSet;

/// What clients have for an answer, if who asks says nothing else.
const PATIENCE: Millis = 5_000;
/// Kinds of files that are passed on of one client, and how long their names may be.
const MAX_KINDS: usize = 16;
const MAX_KIND: usize = 40;

/// A check that is under way.
pub(super) struct Check {
    /// Who asks.
    asker: Conn,
    pub(super) until: Millis,
    waiting: BTreeSet<Key>,
    able: u64,
    unable: u64,
    unknown: u64,
}

/// What a client has said, or that it has not.
struct Word {
    verdict: Verdict,
    reason: String,
    files: Vec<Files>,
    stop_ms: Option<u64>,
}

impl Word {
    fn unknown(why: &str) -> Self {
        Self {
            verdict: Verdict::Unknown,
            reason: why.to_owned(),
            files: Vec::new(),
            stop_ms: None,
        }
    }
}

impl<S: Clone> Machine<S> {
    pub(super) fn check(&mut self, conn: Conn, deadline: Option<Millis>) -> Result<(), Problem> {
        if self.check.is_some() {
            return Err(problem(Code::InUse, "a check is under way already"));
        }
        let deadline_ms = deadline.unwrap_or(PATIENCE);
        let until = self.now.saturating_add(deadline_ms);
        self.wake_at(until);
        let all = self.subs.iter();
        let all: Vec<(Key, Option<Conn>)> = all
            .map(|(key, sub)| (key.clone(), sub.conn.filter(|_| sub.wish.checks)))
            .collect();
        let asked = all.iter().filter(|(_, conn)| conn.is_some());
        self.check = Some(Check {
            asker: conn,
            until,
            waiting: asked.map(|(key, _)| key.clone()).collect(),
            able: 0,
            unable: 0,
            unknown: 0,
        });
        let clients = all.len() as u64;
        self.send(conn, Answer::Checking { clients });
        for (key, conn) in all {
            match conn {
                Some(conn) => {
                    let id = key.id;
                    self.send(conn, Answer::Check { id, deadline_ms });
                }
                None => self.checked(&key, Word::unknown("it does not answer such questions")),
            }
        }
        self.check_done();
        Ok(())
    }

    /// A client answers.
    pub(super) fn can(
        &mut self,
        conn: Conn,
        key: Key,
        able: bool,
        reason: &str,
        mut files: Vec<Files>,
        stop_ms: Option<Millis>,
    ) -> Result<(), Problem> {
        self.own(conn, &key)?;
        let check = self.check.as_mut();
        if !check.is_some_and(|check| check.waiting.remove(&key)) {
            let text = format!("{} has not been asked, or its time is over", key.id);
            return Err(problem(Code::WrongState, text));
        }
        files.truncate(MAX_KINDS);
        for file in &mut files {
            file.kind = plain(&file.kind, MAX_KIND);
        }
        let word = Word {
            verdict: if able { Verdict::Able } else { Verdict::Unable },
            reason: plain(reason, MAX_REASON),
            files,
            stop_ms,
        };
        self.checked(&key, word);
        self.check_done();
        Ok(())
    }

    /// Passes on what is known of a client.
    fn checked(&mut self, key: &Key, word: Word) {
        let Some(check) = &mut self.check else { return };
        match word.verdict {
            Verdict::Able => check.able += 1,
            Verdict::Unable => check.unable += 1,
            Verdict::Unknown => check.unknown += 1,
        }
        let asker = check.asker;
        let wish = self.subs.get(key).map_or(Wish::default(), |sub| sub.wish);
        let answer = Answer::Checked {
            id: key.id.clone(),
            uid: key.uid,
            wish,
            verdict: word.verdict,
            reason: word.reason,
            files: word.files,
            stop_ms: word.stop_ms,
        };
        self.send(asker, answer);
    }

    fn check_done(&mut self) {
        let done = |check: &mut Check| check.waiting.is_empty();
        if let Some(check) = self.check.take_if(done) {
            let answer = Answer::CheckDone {
                able: check.able,
                unable: check.unable,
                unknown: check.unknown,
            };
            self.send(check.asker, answer);
        }
    }

    /// A client is no longer subscribed, and cannot answer.
    pub(super) fn checked_without(&mut self, key: &Key, why: &str) {
        let check = self.check.as_mut();
        if check.is_some_and(|check| check.waiting.remove(key)) {
            self.checked(key, Word::unknown(why));
            self.check_done();
        }
    }

    /// Nobody wants to know any more.
    pub(super) fn checker_gone(&mut self, conn: Conn) {
        self.check.take_if(|check| check.asker == conn);
    }

    pub(super) fn tick_check(&mut self) {
        let now = self.now;
        let Some(check) = self.check.as_mut().filter(|check| check.until <= now) else {
            return;
        };
        for key in std::mem::take(&mut check.waiting) {
            self.checked(&key, Word::unknown("it did not answer in time"));
        }
        self.check_done();
    }
}
