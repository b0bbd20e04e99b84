// SPDX-License-Identifier: GPL-2.0
//! The second phase of an update: who stands still when, who is waited for, and what an old driver
//! gets.

use luo_client::{Answer, Id, Outcome, Phase, Request, Wish};
use luod::kept::Boot;
use luod::machine::{
    Arrivals, Conn, Done, Machine, MayRequire, Op, Output, Peer, Rules, Unclaimed,
};
use std::rc::Rc;

const RULES: Rules = Rules {
    subscriptions: 9,
    subscriptions_per_user: 9,
    ids_per_connection: 9,
    deadline: 60_000,
    stop_deadline: 1_000,
    strict: false,
    may_require: MayRequire::Root,
    driver_limit: 5_000,
    claim_limit: 5_000,
    unclaimed: Unclaimed::Keep,
};
const DRIVER: Conn = Conn(100);

struct Play {
    machine: Machine<Rc<()>>,
    said: Vec<(Conn, Answer)>,
    stored: Vec<String>,
    /// What the record says, as it was made last.
    record: Vec<(String, bool)>,
}

impl Play {
    /// Services by their numbers, with what they want; all are prepared.
    fn prepared(rules: Rules, wishes: &[Wish]) -> Self {
        let machine = Machine::new(rules, Boot::new("1"), 0);
        let mut play = Self {
            machine,
            said: Vec::new(),
            stored: Vec::new(),
            record: Vec::new(),
        };
        play.take();
        let (uid, pid, member) = (0, 1, true);
        play.machine.connected(DRIVER, Peer { uid, pid, member });
        for (number, wish) in (0..).zip(wishes) {
            let conn = Conn(number);
            play.machine.connected(conn, Peer { uid, pid, member });
            let (id, wish) = (id(number), *wish);
            play.say(conn, Request::Subscribe { id, wish });
        }
        let prepare = Request::Prepare {
            deadline_ms: None,
            strict: false,
            force: false,
        };
        play.say(DRIVER, prepare);
        for number in 0..wishes.len() as u64 {
            play.say(Conn(number), Request::Ready { id: id(number) });
        }
        assert_eq!(play.machine.phase(), Phase::Prepared);
        play.said.clear();
        play
    }

    fn say(&mut self, conn: Conn, request: Request) {
        self.machine.request(conn, request);
        self.take();
    }

    fn stopped(&mut self, number: u64) {
        let id = id(number);
        self.say(Conn(number), Request::Stopped { id });
    }

    fn tick(&mut self, now: u64) {
        self.machine.tick(now);
        self.take();
    }

    fn take(&mut self) {
        loop {
            let outputs = self.machine.take_output();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Send { to, answer, .. } => self.said.push((to, answer)),
                    Output::Store { name, .. } => self.stored.push(name),
                    Output::Unstore { name } => self.stored.retain(|other| *other != name),
                    Output::Device(op) => {
                        let done = match op {
                            Op::Boot => Done::Boot(Ok(Arrivals::default())),
                            Op::Create(key, epoch) => Done::Create(key, epoch, Ok(Rc::new(()))),
                            Op::Freeze(record, epoch) => {
                                let entries = record.sessions.into_iter();
                                let entry = |entry: luod::catalogue::Entry| {
                                    (entry.id.to_string(), entry.complete)
                                };
                                self.record = entries.map(entry).collect();
                                Done::Freeze(epoch, Ok(Rc::new(())))
                            }
                            other => panic!("{other:?}"),
                        };
                        self.machine.device(done);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Which services have been told to stop since that was last asked.
    fn told(&mut self) -> Vec<u64> {
        let said = std::mem::take(&mut self.said);
        let stop = said.into_iter().filter_map(|(to, answer)| match answer {
            Answer::Stop { .. } => Some(to.0),
            _ => None,
        });
        stop.collect()
    }
}

fn id(number: u64) -> Id {
    Id::new(&format!("s{number}")).expect("an id")
}

fn stops(order: i32) -> Wish {
    Wish {
        stops: true,
        order,
        ..Wish::default()
    }
}

const STOP: Request = Request::Stop { deadline_ms: None };
const FREEZE: Request = Request::Freeze { hold: true };

#[test]
fn storage_stands_still_after_the_guests_that_write_to_it() {
    let wishes = [stops(5), stops(-1), Wish::default(), stops(-1), stops(5)];
    let mut play = Play::prepared(RULES, &wishes);
    // What runs still is worth nothing without its process, so no store has it.
    assert_eq!(play.stored, ["out/1/luod/0/s2"]);
    play.say(DRIVER, STOP);
    assert_eq!(play.told(), [1, 3]);
    play.stopped(3);
    assert_eq!(play.told(), Vec::<u64>::new());
    play.stopped(1);
    assert_eq!(play.told(), [0, 4]);
    play.stopped(0);
    play.tick(70);
    play.stopped(4);
    let last = play.said.last();
    let want = Answer::Stopped {
        stopped: 4,
        left_out: 0,
        ms: 70,
    };
    assert_eq!(last, Some(&(DRIVER, want)));
    assert_eq!(play.stored.len(), 5);
    play.say(DRIVER, FREEZE);
    assert_eq!(play.machine.phase(), Phase::Frozen);
    assert!(play.record.iter().all(|(_, complete)| *complete));
}

#[test]
fn one_that_does_not_stand_still_in_time_is_left_out() {
    let mut play = Play::prepared(RULES, &[stops(0), stops(0), stops(1)]);
    play.say(DRIVER, STOP);
    play.stopped(1);
    play.tick(1_000);
    let (to, abort) = (Conn(0), Some(id(0)));
    let told = |(conn, answer): &(Conn, Answer)| {
        *conn == to && matches!(answer, Answer::Abort { id, .. } if *id == abort)
    };
    assert!(play.said.iter().any(told), "{:?}", play.said);
    let left = play.said.iter().filter(|(conn, answer)| {
        let left = Outcome::LeftOut;
        *conn == DRIVER && matches!(answer, Answer::Client { outcome, .. } if *outcome == left)
    });
    assert_eq!(left.count(), 2);
    play.say(DRIVER, FREEZE);
    play.record.sort();
    let entry = |number, complete| (id(number).to_string(), complete);
    assert_eq!(
        play.record,
        [entry(0, false), entry(1, true), entry(2, false)]
    );
}

#[test]
fn one_that_must_live_through_calls_it_off_in_any_phase() {
    let must = Wish {
        required: true,
        ..stops(0)
    };
    let dies: [&dyn Fn(&mut Play); 3] = [&|_| {}, &|play| play.say(DRIVER, STOP), &|play| {
        play.say(DRIVER, STOP);
        play.tick(1_000);
    }];
    for before in dies {
        let mut play = Play::prepared(RULES, &[must, Wish::default()]);
        before(&mut play);
        play.machine.closed(Conn(0));
        play.take();
        assert_eq!(play.machine.phase(), Phase::Operating);
        let off = |(to, answer): &(Conn, Answer)| {
            *to == DRIVER && matches!(answer, Answer::Aborted { .. })
        };
        assert!(play.said.iter().any(off), "{:?}", play.said);
        assert!(play.stored.is_empty(), "{:?}", play.stored);
    }
    // So does one without that wish, if the rules are strict.
    let strict = Rules {
        strict: true,
        ..RULES
    };
    for (rules, phase) in [(RULES, Phase::Prepared), (strict, Phase::Operating)] {
        let mut play = Play::prepared(rules, &[stops(0), Wish::default()]);
        play.machine.closed(Conn(0));
        play.take();
        assert_eq!(play.machine.phase(), phase);
    }
    // One that comes too late, and must, too; unless its user's word does not count.
    for (uid, phase) in [(7, Phase::Prepared), (0, Phase::Operating)] {
        let mut play = Play::prepared(RULES, &[stops(0)]);
        let (conn, pid, member) = (Conn(50), 1, true);
        play.machine.connected(conn, Peer { uid, pid, member });
        let (id, wish) = (id(50), must);
        play.say(conn, Request::Subscribe { id, wish });
        assert_eq!(play.machine.phase(), phase);
    }
}

#[test]
fn a_driver_that_knows_one_phase_goes_through_both() {
    let mut play = Play::prepared(RULES, &[stops(0), Wish::default()]);
    play.say(DRIVER, FREEZE);
    assert_eq!(play.machine.phase(), Phase::Stopping);
    assert_eq!(play.told(), [0]);
    play.stopped(0);
    let to_driver = play.said.iter().filter(|(to, _)| *to == DRIVER);
    let to_driver: Vec<&Answer> = to_driver.map(|(_, answer)| answer).collect();
    assert_eq!(to_driver, [&Answer::Frozen { sessions: 2 }]);
}

#[test]
fn a_driver_that_dawdles_while_all_stand_still_loses_the_update() {
    let mut play = Play::prepared(RULES, &[stops(0)]);
    play.say(DRIVER, STOP);
    play.stopped(0);
    play.tick(999);
    assert_eq!(play.machine.phase(), Phase::Stopped);
    play.tick(1_000);
    assert_eq!(play.machine.phase(), Phase::Operating);
    let told =
        |(to, answer): &(Conn, Answer)| *to == Conn(0) && matches!(answer, Answer::Abort { .. });
    assert!(play.said.iter().any(told), "{:?}", play.said);
}
