// SPDX-License-Identifier: GPL-2.0
//! Who may say what, and when: the table in `Documentation/luod-protocol.rst` is walked, cell by
//! cell.

use luo_client::{decode, Answer, Code, Phase, Request};
use luod::device::DeviceError;
use luod::kept::Boot;
use luod::machine::{
    Arrivals, Conn, Done, Machine, MayRequire, Op, Output, Peer, Rules, Unclaimed,
};
use std::rc::Rc;

const RULES: Rules = Rules {
    subscriptions: 8,
    subscriptions_per_user: 4,
    ids_per_connection: 4,
    deadline: 1_000,
    stop_deadline: 1_000,
    strict: false,
    may_require: MayRequire::Members,
    driver_limit: 5_000,
    claim_limit: 5_000,
    unclaimed: Unclaimed::Keep,
};
const PROTOCOL: &str = include_str!("../../../Documentation/luod-protocol.rst");
const PHASES: [Phase; 8] = [
    Phase::Starting,
    Phase::Operating,
    Phase::Preparing,
    Phase::Prepared,
    Phase::Stopping,
    Phase::Stopped,
    Phase::Freezing,
    Phase::Frozen,
];

/// Who asks, by the words of the table.
const CAST: [(&str, Conn, u32, bool); 6] = [
    ("driver", Conn(1), 0, true),
    ("other root", Conn(2), 0, true),
    ("owner", Conn(3), 7, true),
    ("same user", Conn(4), 7, true),
    ("member", Conn(5), 8, true),
    ("outsider", Conn(6), 9, false),
];

struct Play {
    machine: Machine<Rc<()>>,
    /// Operations of the device that wait.
    waiting: Vec<Op>,
    said: Vec<(Conn, Answer)>,
}

impl Play {
    fn say(&mut self, conn: Conn, line: &str) {
        let line = format!("{{\"version\":1,\"type\":{line}}}");
        let request: Request = decode(line.as_bytes()).expect("a request");
        self.machine.request(conn, request);
        self.take();
    }

    fn take(&mut self) {
        for output in self.machine.take_output() {
            match output {
                Output::Send { to, answer, .. } => self.said.push((to, answer)),
                Output::Device(op) => self.waiting.push(op),
                _ => {}
            }
        }
    }

    fn device(&mut self) {
        for op in std::mem::take(&mut self.waiting) {
            let done = match op {
                Op::Boot => Done::Boot(Ok(Arrivals::default())),
                Op::Create(key, epoch) => Done::Create(key, epoch, Ok(Rc::new(()))),
                Op::Freeze(_, epoch) => Done::Freeze(epoch, Ok(Rc::new(()))),
                Op::Retrieve(key) => Done::Retrieve(key, Err(DeviceError::Unknown)),
                Op::Discard(key) => Done::Discard(key, Ok(())),
            };
            self.machine.device(done);
            self.take();
        }
    }

    /// luod in a phase, with the owner subscribed as "a", and as far as it gets there.
    fn in_phase(phase: Phase) -> Self {
        let mut play = Self {
            machine: Machine::new(RULES, Boot::new("1"), 0),
            waiting: Vec::new(),
            said: Vec::new(),
        };
        play.take();
        let (driver, owner) = (CAST[0].1, CAST[2].1);
        for (_, conn, uid, member) in CAST {
            let pid = 1;
            play.machine.connected(conn, Peer { uid, pid, member });
        }
        play.say(owner, r#""SUBSCRIBE","id":"a","stops":true,"checks":true"#);
        let steps: [&dyn Fn(&mut Self); 7] = [
            &|play| play.device(),
            &|play| {
                play.say(driver, r#""PREPARE""#);
                play.device();
            },
            &|play| play.say(owner, r#""READY","id":"a""#),
            &|play| play.say(driver, r#""STOP""#),
            &|play| play.say(owner, r#""STOPPED","id":"a""#),
            &|play| play.say(driver, r#""FREEZE","hold":true"#),
            &|play| play.device(),
        ];
        let mut steps = steps.iter();
        while play.machine.phase() != phase {
            steps.next().expect("every phase is reached")(&mut play);
        }
        play
    }

    /// What one hears on what it says, in the words of the table.
    fn ask(&mut self, conn: Conn, line: &str) -> &'static str {
        self.said.clear();
        let before = self.machine.phase();
        self.say(conn, line);
        let went_on = self.machine.phase() != before;
        let event = |answer: &Answer| {
            matches!(
                answer,
                Answer::Abort { .. } | Answer::Stop { .. } | Answer::Check { .. }
            )
        };
        let mut answers = self.said.iter().filter(|(to, _)| *to == conn);
        match answers.find(|(_, answer)| !event(answer)) {
            None if went_on => "yes",
            None => "none",
            Some((_, Answer::Error { error, .. })) => match error.code {
                Code::WrongState => "state",
                Code::InUse => "use",
                Code::NotPermitted => "perm",
                Code::NothingToClaim => "nil",
                other => panic!("{other:?}"),
            },
            Some(_) => "yes",
        }
    }
}

/// The line for a request of the table.
fn line(request: &str) -> String {
    match request {
        "SUBSCRIBE" => r#""SUBSCRIBE","id":"a""#.into(),
        "SUBSCRIBE b" => r#""SUBSCRIBE","id":"b""#.into(),
        "ABORT" | "CALL_OFF" | "CHECK" | "PREPARE" | "STOP" | "FREEZE" | "STATUS" => {
            format!("\"{request}\"")
        }
        "ABORT a" => r#""ABORT","id":"a""#.into(),
        "CAN" => r#""CAN","id":"a","able":true"#.into(),
        "UNSUBSCRIBE" | "READY" | "STOPPED" | "CLAIM" | "FINISHED" => {
            format!("\"{request}\",\"id\":\"a\"")
        }
        other => panic!("no request of the table: {other}"),
    }
}

#[test]
fn every_cell_of_the_table_is_true() {
    let (_, table) = PROTOCOL.split_once(".. who-may-what").expect("the table");
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with("==="))
        .skip(3);
    let rows = rows.take_while(|line| !line.starts_with("==="));
    let mut cells = 0;
    let mut askers = std::collections::BTreeSet::new();
    for row in rows {
        let (what, rest) = row.split_at(26);
        let (request, who) = what.trim().split_once(", ").expect("who");
        let who = who.trim();
        let words: Vec<&str> = rest.split_whitespace().collect();
        assert_eq!(words.len(), PHASES.len(), "{row}");
        let (_, conn, ..) = CAST.iter().find(|cast| cast.0 == who).expect(who);
        askers.insert(who);
        for (phase, word) in PHASES.into_iter().zip(words) {
            let mut play = Play::in_phase(phase);
            if request == "CAN" {
                play.say(CAST[1].1, r#""CHECK""#);
            }
            let before = play.machine.phase();
            let heard = play.ask(*conn, &line(request));
            assert_eq!(heard, word, "{request}, {who}, {phase}");
            if heard != "yes" {
                assert_eq!(play.machine.phase(), before, "{request}, {who}, {phase}");
            }
            cells += 1;
        }
    }
    assert!(cells >= 8 * 30, "{cells} cells");
    assert_eq!(askers.len(), CAST.len());
}

#[test]
fn what_is_held_and_driven_by_nobody_is_called_off_by_root() {
    let mut play = Play::in_phase(Phase::Frozen);
    play.machine.closed(CAST[0].1);
    play.take();
    assert_eq!(play.machine.phase(), Phase::Frozen);
    assert_eq!(play.ask(CAST[2].1, &line("ABORT")), "perm");
    assert_eq!(play.ask(CAST[1].1, &line("ABORT")), "yes");
    assert_eq!(play.machine.phase(), Phase::Operating);
    let told =
        |(to, answer): &(Conn, Answer)| *to == CAST[2].1 && matches!(answer, Answer::Abort { .. });
    assert!(play.said.iter().any(told), "the owner is not told");
}
