// SPDX-License-Identifier: GPL-2.0
//! Any bytes as what three clients say: lines are cut, read and obeyed, and the bounds hold. For
//! fuzzers, and a test of its own.

use crate::device::DeviceError;
use crate::kept::Boot;
use crate::machine::{Arrivals, Conn, Done, Machine, Op, Output};
use crate::machine::{MayRequire, Peer, Rules, Unclaimed};
use luo_client::{decode, encode, Lines, Request, MAX_ANSWER, MAX_REQUEST};
use std::rc::Rc;

const RULES: Rules = Rules {
    subscriptions: 6,
    subscriptions_per_user: 3,
    ids_per_connection: 3,
    deadline: 50,
    stop_deadline: 40,
    strict: false,
    may_require: MayRequire::Members,
    driver_limit: 100,
    claim_limit: 80,
    unclaimed: Unclaimed::Finish,
};
const UIDS: [u32; 3] = [0, 0, 7];

struct Play {
    machine: Machine<Rc<()>>,
    /// How many times a connection has been made.
    made: u64,
    sessions: Vec<std::rc::Weak<()>>,
    mood: u8,
}

impl Play {
    fn session(&mut self) -> Rc<()> {
        let session = Rc::new(());
        self.sessions.retain(|weak| weak.strong_count() > 0);
        self.sessions.push(Rc::downgrade(&session));
        session
    }

    /// Does what the machine wants; the device works or not, as the input has it.
    fn obey(&mut self) {
        loop {
            let outputs = self.machine.take_output();
            if outputs.is_empty() {
                break;
            }
            for output in outputs {
                match output {
                    Output::Send { answer, .. } => assert!(encode(&answer).len() <= MAX_ANSWER),
                    Output::Device(op) => self.device(op),
                    _ => {}
                }
            }
        }
        assert!(
            self.sessions.len() <= 4 * RULES.subscriptions + 1,
            "sessions pile up"
        );
    }

    fn device(&mut self, op: Op) {
        self.mood = self.mood.rotate_left(1);
        let error = match self.mood & 7 {
            1 => Some(DeviceError::Exists),
            2 => Some(DeviceError::Unknown),
            3 => Some(DeviceError::Busy),
            _ => None,
        };
        let made = match error {
            Some(error) => Err(error),
            None => Ok(self.session()),
        };
        let done = match op {
            Op::Boot => Done::Boot(Ok(Arrivals {
                sessions: Vec::new(),
                trouble: (self.mood & 1 != 0).then(|| "lost".to_owned()),
            })),
            Op::Create(key, epoch) => Done::Create(key, epoch, made),
            Op::Retrieve(key) => Done::Retrieve(key, made),
            Op::Discard(key) => Done::Discard(key, made.map(drop)),
            Op::Freeze(_, epoch) => Done::Freeze(epoch, made),
        };
        self.machine.device(done);
    }
}

/// Plays the bytes: a byte that says who speaks and how much, and so many bytes.
pub fn lines(data: &[u8]) {
    let mut play = Play {
        machine: Machine::new(RULES, Boot::new("1"), 0),
        made: 0,
        sessions: Vec::new(),
        mood: data.len().to_le_bytes()[0] ^ 0x35,
    };
    let mut clients: [Option<(Conn, Lines)>; 3] = [None, None, None];
    let mut now = 0;
    let mut rest = data;
    while let Some((head, tail)) = rest.split_first() {
        let who = usize::from(head & 3);
        let length = (usize::from(head >> 2) * 4).min(tail.len());
        let (bytes, after) = tail.split_at(length);
        rest = after;
        let Some(uid) = UIDS.get(who) else {
            now += length as u64;
            play.machine.tick(now);
            play.obey();
            continue;
        };
        let Some(client) = clients.get_mut(who) else {
            continue;
        };
        let (conn, lines) = client.get_or_insert_with(|| {
            play.made += 1;
            let conn = Conn(play.made);
            let peer = Peer {
                uid: *uid,
                pid: 1,
                member: true,
            };
            play.machine.connected(conn, peer);
            (conn, Lines::new(MAX_REQUEST))
        });
        lines.push(bytes);
        let conn = *conn;
        let gone = loop {
            match lines.next_line() {
                Ok(Some(line)) => match decode::<Request>(&line) {
                    Ok(request) => {
                        // What is understood is written as it was meant.
                        assert_eq!(
                            decode(encode(&request).trim_ascii_end()).as_ref(),
                            Ok(&request)
                        );
                        play.machine.request(conn, request);
                        play.obey();
                    }
                    Err(bad) => break bad.problem.code == luo_client::Code::BadLine,
                },
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        if gone || length == 0 {
            *client = None;
            play.machine.closed(conn);
            play.obey();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = String> {
        let id = prop::sample::select(vec![
            "\"id\":\"a\"",
            "\"id\":\"b\"",
            "\"id\":\"\\u0061\"",
            "\"id\":\"/\"",
            "\"x\":1",
            "\"id\":\"a\",\"stops\":true,\"checks\":true,\"order\":1",
            "\"id\":\"b\",\"stops\":true,\"required\":true",
            "\"id\":\"b\",\"able\":true,\"unverified\":true",
        ]);
        let kind = prop::sample::select(vec![
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "READY",
            "ABORT",
            "CLAIM",
            "FINISHED",
            "STATUS",
            "PREPARE",
            "CHECK",
            "CAN",
            "STOP",
            "STOPPED",
            "CALL_OFF",
            "FREEZE",
            "NONE",
        ]);
        (kind, id, any::<bool>()).prop_map(|(kind, id, version)| {
            let version = if version { "\"version\":1," } else { "" };
            format!("{{{version}\"type\":\"{kind}\",{id}}}")
        })
    }

    /// Whole lines, padded with blanks to what a length can say, now and then with a byte changed.
    fn session() -> impl Strategy<Value = Vec<u8>> {
        let part = (
            0u8..4,
            line(),
            prop::option::weighted(0.1, (0usize..60, any::<u8>())),
        );
        prop::collection::vec(part, 0..60).prop_map(|parts| {
            let mut data = Vec::new();
            for (who, line, change) in parts {
                let mut line = line.into_bytes();
                if let Some((at, to)) = change {
                    if let Some(byte) = line.get_mut(at) {
                        *byte = to;
                    }
                }
                while line.len() % 4 != 3 {
                    line.push(b' ');
                }
                line.push(b'\n');
                data.push(who | u8::try_from(line.len() / 4).unwrap_or(0) << 2);
                data.extend(line);
            }
            data
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..400)) {
            lines(&data);
        }

        #[test]
        fn lines_that_are_nearly_right(data in session()) {
            lines(&data);
        }
    }
}
