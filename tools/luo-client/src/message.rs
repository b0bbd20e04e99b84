// SPDX-License-Identifier: GPL-2.0
//! Every message there is, and how one becomes a line and a line becomes one.

use crate::id::Id;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The protocol's version, which each message states.
pub const VERSION: u64 = 1;
/// The longest line a client may send.
pub const MAX_REQUEST: usize = 4096;
/// The longest line that luod sends.
pub const MAX_ANSWER: usize = 1 << 20;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Request {
    /// I want to be part of updates. Answered by [`Answer::Subscribed`].
    Subscribe {
        /// What I call myself.
        id: Id,
        /// What luod has to know of me.
        #[serde(flatten)]
        wish: Wish,
    },
    /// No longer. Answered by [`Answer::Ok`].
    Unsubscribe {
        /// What I call myself.
        id: Id,
    },
    /// All that shall live on is in the session. Answered by [`Answer::Ok`].
    Ready {
        /// Whose session.
        id: Id,
    },
    /// I stand still, and my last state is in the session too. Answered by [`Answer::Ok`].
    Stopped {
        /// Whose session.
        id: Id,
    },
    /// Could I be preserved now? The answer to [`Answer::Check`]; it is not answered.
    Can {
        /// Who.
        id: Id,
        /// Whether it could.
        able: bool,
        /// Why not, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// What would be preserved.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<Files>,
        /// For how long it would stand still before the kexec, as far as it knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_ms: Option<u64>,
    },
    /// With an id, from a client: I cannot, go on without me. Without, from who drives the update:
    /// it is called off.
    Abort {
        /// Whose part is called off; all, if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Root only: the update is called off, whoever drives it. Answered by [`Answer::Aborted`].
    CallOff {
        /// Why, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Give me the session that has arrived for me. Answered by [`Answer::Claimed`], with the
    /// session.
    Claim {
        /// Whose session.
        id: Id,
        /// Although nobody knows whether all is in: I can tell myself.
        #[serde(default, skip_serializing_if = "is_false")]
        unverified: bool,
    },
    /// I have all that was in it. Answered by [`Answer::Ok`].
    Finished {
        /// Whose session.
        id: Id,
    },
    /// How are things? Answered by [`Answer::Status`].
    Status,
    /// Root only: ask all clients to preserve. Answered by [`Answer::Preparing`], one
    /// [`Answer::Client`] for each, and [`Answer::Prepared`].
    Prepare {
        /// How long clients have; the configured time, if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
        /// Call it off if one of them cannot.
        #[serde(default)]
        strict: bool,
        /// Although something of the last update is not claimed yet, and will be lost.
        #[serde(default)]
        force: bool,
    },
    /// Root only: who is subscribed, and could they be preserved? Nobody is stopped. Answered by
    /// [`Answer::Checking`], one [`Answer::Checked`] for each, and [`Answer::CheckDone`].
    Check {
        /// How long clients have to answer; five seconds, if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
    },
    /// Root only: those that run until now stand still. Answered by [`Answer::Stopping`], one
    /// [`Answer::ClientStopped`] for each, and [`Answer::Stopped`].
    Stop {
        /// How long all of them have together; the configured time, if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
    },
    /// Root only: note down what goes to the next kernel. Answered by [`Answer::Frozen`].
    Freeze {
        /// Do not call it off when I am gone: somebody else does the kexec.
        #[serde(default)]
        hold: bool,
    },
}

/// What a client wants luod to know when it subscribes. All of it may be left out: then it is as it
/// was in the first luod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// It must live through: an update that it cannot be part of is called off.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
    /// It preserves while it runs, and stands still only after [`Answer::Stop`].
    #[serde(skip_serializing_if = "is_false")]
    pub stops: bool,
    /// It answers [`Answer::Check`].
    #[serde(skip_serializing_if = "is_false")]
    pub checks: bool,
    /// When it is stopped: those with a smaller number are, before it is told to.
    #[serde(skip_serializing_if = "is_zero")]
    pub order: i32,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Files of one kind that a client would preserve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// What they are: "memfd", "eventfd".
    pub kind: String,
    /// How many.
    #[serde(default)]
    pub count: u64,
    /// How large, together.
    #[serde(default)]
    pub bytes: u64,
}

/// What luod says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Answer {
    /// Done.
    Ok {
        /// For which id.
        id: Id,
    },
    /// The client is known now.
    Subscribed {
        /// Under this id.
        id: Id,
        /// Something has arrived for it that can be claimed.
        claimable: bool,
        /// Something that was preserved under this id before, by a process that is gone, goes to
        /// the next kernel.
        preserved: bool,
    },
    /// Preserve now: the session comes with this line.
    StartPreservation {
        /// For which id.
        id: Id,
        /// How long there is time.
        deadline_ms: u64,
    },
    /// All are prepared: stand still, put the last state into the session, and say
    /// [`Request::Stopped`]. Only to who subscribed with `stops`.
    Stop {
        /// Which id.
        id: Id,
        /// How long there is time.
        deadline_ms: u64,
    },
    /// Could you be preserved now? Answer with [`Request::Can`], and go on. Only to who subscribed
    /// with `checks`.
    Check {
        /// Which id.
        id: Id,
        /// How long there is time.
        deadline_ms: u64,
    },
    /// Close the session: what is in it does not go to the next kernel.
    Abort {
        /// Whose; all of this client's, if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Why, for people.
        reason: String,
    },
    /// The session that has arrived comes with this line.
    Claimed {
        /// For which id.
        id: Id,
    },
    /// How things are.
    Status {
        /// All of it.
        status: Status,
    },
    /// The clients are being asked.
    Preparing {
        /// So many.
        clients: u64,
    },
    /// What has become of one of them.
    Client {
        /// Which.
        id: Id,
        /// Whose.
        uid: u32,
        /// What.
        outcome: Outcome,
        /// Why, for people; empty if it is ready.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// Since they were asked.
        ms: u64,
    },
    /// All have answered, or their time is over.
    Prepared {
        /// So many take part.
        ready: u64,
        /// So many do not.
        left_out: u64,
    },
    /// The clients are asked whether they could be preserved.
    Checking {
        /// So many are subscribed.
        clients: u64,
    },
    /// What one of them says.
    Checked {
        /// Which.
        id: Id,
        /// Whose.
        uid: u32,
        /// How it has subscribed.
        #[serde(flatten)]
        wish: Wish,
        /// What came of it.
        verdict: Verdict,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// What it would preserve.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<Files>,
        /// For how long it would stand still.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_ms: Option<u64>,
    },
    /// All have answered, or their time is over.
    CheckDone {
        /// So many can.
        able: u64,
        /// So many cannot.
        unable: u64,
        /// Of so many it is not known.
        unknown: u64,
    },
    /// The clients that run are told to stand still.
    Stopping {
        /// So many.
        clients: u64,
    },
    /// One of them stands still.
    ClientStopped {
        /// Which.
        id: Id,
        /// Whose.
        uid: u32,
        /// Since it was told to.
        ms: u64,
    },
    /// All that go to the next kernel stand still.
    Stopped {
        /// So many of those that ran.
        stopped: u64,
        /// So many do not take part, in all.
        left_out: u64,
        /// Since the first one was told to.
        ms: u64,
    },
    /// All that goes to the next kernel is noted down; the kexec can come.
    Frozen {
        /// So many sessions.
        sessions: u64,
    },
    /// The update is called off; everything is as before.
    Aborted {
        /// Why, for people.
        reason: String,
    },
    /// It could not be done.
    Error {
        /// What was wrong.
        error: Problem,
        /// About this id, if the request had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
    },
}

/// What has become of a client in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It takes part.
    Ready,
    /// It does not.
    LeftOut,
}

/// Whether a client could be preserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It says that it could.
    Able,
    /// It says that it could not.
    Unable,
    /// It does not say.
    Unknown,
}

/// An error, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The line is no JSON object, or longer than any may be. luod closes the connection.
    BadLine,
    /// A protocol version that luod does not speak.
    BadVersion,
    /// There is no such message, or a field is missing or wrong.
    BadMessage,
    /// Not this user.
    NotPermitted,
    /// Another connection has this id.
    InUse,
    /// No session has arrived for this id, or not for this user.
    NothingToClaim,
    /// What arrived for this id cannot be read.
    Damaged,
    /// The message makes no sense now.
    WrongState,
    /// There are too many connections, ids or messages. After too many messages luod closes the
    /// connection.
    TooMany,
    /// Something of the last update has not been claimed yet.
    Unclaimed,
    /// `/dev/liveupdate` cannot be used: absent, or somebody has it for too long.
    Device,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

/// How things are, as luod sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What luod is doing.
    pub phase: Phase,
    /// Who drives the update, if somebody does; only root is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// Connections.
    pub connections: u64,
    /// Who is subscribed; only the asking user's, unless that is root.
    pub clients: Vec<Service>,
    /// What has arrived and is not finished; only the asking user's, unless that is root.
    pub arrived: Vec<Service>,
}

/// Who drives an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// The user.
    pub uid: u32,
    /// The process, as it was when it connected.
    pub pid: u32,
}

/// What luod is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It has not read yet what arrived.
    Starting,
    /// Nothing special.
    Operating,
    /// Clients have been asked to preserve.
    Preparing,
    /// All have answered.
    Prepared,
    /// Clients that run have been told to stand still.
    Stopping,
    /// All stand still.
    Stopped,
    /// It is noting down what goes to the next kernel.
    Freezing,
    /// The kexec can come.
    Frozen,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Operating => "operating",
            Self::Preparing => "preparing",
            Self::Prepared => "prepared",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Freezing => "freezing",
            Self::Frozen => "frozen",
            Self::Other => "in a phase that this program does not know",
        })
    }
}

/// An id of a user, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Which.
    pub id: Id,
    /// Whose.
    pub uid: u32,
    /// How it stands.
    pub part: Part,
    /// How it has subscribed.
    #[serde(flatten, default)]
    pub wish: Wish,
}

/// How a client, or what has arrived for one, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Subscribed, and no update is under way for it.
    Subscribed,
    /// Asked to preserve.
    Asked,
    /// What it has is preserved, and it runs until it is told to stand still.
    Prepared,
    /// Told to stand still.
    Stopping,
    /// Ready.
    Ready,
    /// The update goes on without it.
    LeftOut,
    /// Arrived; nobody has claimed it.
    Waiting,
    /// Arrived; nobody knows whether all is in, as luod's record of it is lost.
    Unverified,
    /// Claimed; its owner has not finished.
    Claimed,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subscribed => "subscribed",
            Self::Asked => "asked",
            Self::Prepared => "prepared, and runs",
            Self::Stopping => "told to stop",
            Self::Ready => "ready",
            Self::LeftOut => "left out",
            Self::Waiting => "waiting to be claimed",
            Self::Unverified => "waiting, and not known to be whole",
            Self::Claimed => "claimed",
            Self::Other => "in a state that this program does not know",
        })
    }
}

/// Why a line is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// What is wrong.
    pub problem: Problem,
    /// The id in it, if it has a good one.
    pub id: Option<Id>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    version: u64,
    #[serde(flatten)]
    message: &'a T,
}

/// A message as a line, with its end.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let envelope = Envelope {
        version: VERSION,
        message,
    };
    // Nothing in the messages can fail to be JSON: all keys are text.
    let mut line = serde_json::to_vec(&envelope).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The message that a line is.
///
/// # Errors
///
/// It is none: what to answer, and about which id.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, BadMessage> {
    let bad = |code, message: String, id| BadMessage {
        problem: Problem { code, message },
        id,
    };
    let value: serde_json::Value = serde_json::from_slice(line)
        .map_err(|error| bad(Code::BadLine, format!("not a line of JSON: {error}"), None))?;
    let Some(object) = value.as_object() else {
        let text = "a message is a JSON object".to_owned();
        return Err(bad(Code::BadLine, text, None));
    };
    let id = object.get("id").and_then(|id| id.as_str());
    let id = id.and_then(|id| Id::new(id).ok());
    // The first clients stated no version.
    if let Some(version) = object.get("version") {
        if version.as_u64() != Some(VERSION) {
            let text = format!("this is version {VERSION} of the protocol, not {version:.40}");
            return Err(bad(Code::BadVersion, text, id));
        }
    }
    T::deserialize(value).map_err(|error| {
        bad(
            Code::BadMessage,
            format!("not understood: {error:.200}"),
            id,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> Id {
        Id::new("cache").expect("an id")
    }

    #[test]
    fn these_are_the_published_lines() {
        let subscribe = |wish| String::from_utf8(encode(&Request::Subscribe { id: id(), wish }));
        let line = subscribe(Wish::default()).expect("text");
        let plain = "{\"version\":1,\"type\":\"SUBSCRIBE\",\"id\":\"cache\"}\n";
        assert_eq!(line, plain);
        let wish = Wish {
            required: true,
            stops: true,
            checks: true,
            order: -3,
        };
        let line = subscribe(wish).expect("text");
        let all = "\"required\":true,\"stops\":true,\"checks\":true,\"order\":-3}\n";
        assert!(line.ends_with(all), "{line}");
        assert_eq!(
            decode(line.as_bytes()),
            Ok(Request::Subscribe { id: id(), wish })
        );
        let odd = br#"{"type":"SUBSCRIBE","id":"cache","order":2147483648}"#;
        assert!(decode::<Request>(odd).is_err());
        let line = encode(&Answer::StartPreservation {
            id: id(),
            deadline_ms: 5,
        });
        let text = String::from_utf8(line).expect("text");
        assert!(text.contains("\"type\":\"START_PRESERVATION\""), "{text}");
        let old = br#"{"type":"READY","id":"cache","more":[1]}"#;
        assert_eq!(decode(old), Ok(Request::Ready { id: id() }));
    }

    #[test]
    fn what_a_later_luod_says_is_no_nonsense() {
        let line = br#"{"type":"ERROR","error":{"code":"too-new","message":"x"}}"#;
        let answer = decode::<Answer>(line);
        assert!(
            matches!(&answer, Ok(Answer::Error { error, .. }) if error.code == Code::Other),
            "{answer:?}"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let code = |line: &[u8]| {
            decode::<Request>(line)
                .expect_err("no message")
                .problem
                .code
        };
        assert_eq!(code(b"{\"type\":\"READY\",\"id\":\"\xff\"}"), Code::BadLine);
        assert_eq!(code(b""), Code::BadLine);
        assert_eq!(code(b"[]"), Code::BadLine);
        assert_eq!(code(br#"{"version":2,"type":"STATUS"}"#), Code::BadVersion);
        assert_eq!(code(br#"{"type":"JUMP"}"#), Code::BadMessage);
        assert_eq!(code(br#"{"type":"READY","id":"a/b"}"#), Code::BadMessage);
        assert_eq!(code(br#"{"type":"READY"}"#), Code::BadMessage);
        let deep = [b"[".repeat(4000), b"]".repeat(4000)].concat();
        assert_eq!(code(&deep), Code::BadLine);
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Request>(&line);
            let _ = decode::<Answer>(&line);
        }

        /// Lines that are nearly right.
        #[test]
        fn nor_one_that_is_nearly_right(at in 0usize..60, with in any::<u8>(), cut in 0usize..80) {
            let mut line = encode(&Request::Prepare { deadline_ms: Some(7), strict: true, force: false });
            if let Some(byte) = line.get_mut(at) {
                *byte = with;
            }
            line.truncate(cut);
            let _ = decode::<Request>(&line);
        }
    }
}
