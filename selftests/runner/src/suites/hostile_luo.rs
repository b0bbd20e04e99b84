// SPDX-License-Identifier: GPL-2.0
//! Damaged LUO records, by the names that luo/corrupt.rs gives them: a fault is named in the log,
//! affects only what it was found in, and the machine continues.

use super::Played;
use crate::check::{self, Check};
use crate::console;
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::{Event, Outcome};
use crate::qemu;
use anyhow::Result;
use Which::{Debug, Ours};

/// What may become of a session.
#[derive(Clone, Copy)]
enum Fate {
    /// All its memfds are retrieved as they were, and FINISH works.
    Intact,
    /// RETRIEVE_SESSION says EBADMSG.
    Lost,
    /// One of the two: which of them holds the fault is a matter of taste.
    Either,
    /// One memfd is lost with one of these; the others are intact, and FINISH works, or says that
    /// there is no driver.
    OneFile(&'static [&'static str]),
    /// The whole session, or that memfd alone.
    LostOrOneFile(&'static [&'static str]),
}

/// A corruption, and what our kernel must make of it.
struct Case {
    name: &'static str,
    /// Of what the kernel must say at least one, in whatever case.
    says: &'static [&'static str],
    good: Fate,
    victim: Fate,
    /// What a name is answered that no session has.
    nobody: &'static [&'static str],
    /// More words of the guest's.
    words: &'static str,
}

/// The table of sessions cannot be read: any name may have been in it.
const fn table(name: &'static str, says: &'static [&'static str]) -> Case {
    Case {
        name,
        says,
        good: Fate::Lost,
        victim: Fate::Lost,
        nobody: &["EBADMSG"],
        words: "",
    }
}

/// One session is concerned.
const fn session(name: &'static str, says: &'static [&'static str], victim: Fate) -> Case {
    Case {
        name,
        says,
        good: Fate::Intact,
        victim,
        nobody: &["ENOENT"],
        words: "",
    }
}

/// No session is concerned.
const fn flb(name: &'static str, says: &'static [&'static str]) -> Case {
    session(name, says, Fate::Intact)
}

const CASES: &[Case] = &[
    table("luo-compatible", &["incompatible", "version", "luo-v99"]),
    table("luo-short", &["too small", "too short", "bytes"]),
    table("sessions-wild", &["session"]),
    table("sessions-unpreserved", &["session"]),
    table("session-count-huge", &["session"]),
    table("session-count-zero", &["session"]),
    Case {
        good: Fate::Either,
        victim: Fate::Either,
        words: "lu.more=60",
        ..table("session-cycle", &["session"])
    },
    Case {
        nobody: &["EBADMSG"],
        ..session("session-name-unterminated", &["name"], Fate::Lost)
    },
    Case {
        nobody: &["EBADMSG"],
        ..session("session-name-empty", &["name"], Fate::Lost)
    },
    Case {
        nobody: &["EBADMSG", "ENOENT"],
        words: "lu.more=1",
        ..session("session-duplicate", &["victim"], Fate::Either)
    },
    session("files-wild", &["victim"], Fate::Lost),
    Case {
        words: "lu.victim=70",
        ..session("files-cycle", &["victim"], Fate::Lost)
    },
    session("files-count", &["victim"], Fate::Lost),
    session("block-count", &["victim"], Fate::Lost),
    session(
        "file-compat-unterminated",
        &["victim"],
        Fate::LostOrOneFile(&["EBADMSG", "ENODEV"]),
    ),
    session(
        "file-unknown-handler",
        &["luo-v99"],
        Fate::OneFile(&["ENODEV"]),
    ),
    session("token-duplicate", &["victim"], Fate::Lost),
    flb("flb-count-huge", &["flb"]),
    flb("flb-pages", &["flb"]),
    flb("flb-ref-zero", &["flb"]),
    flb("flb-ref-huge", &["flb"]),
    flb("flb-name-unterminated", &["flb"]),
    flb("flb-wild", &["flb"]),
];

/// The case that is played with `liveupdate.on_error=panic` too.
const TO_PANIC: &str = "luo-compatible";

/// The names of all, for the table of both kernels.
pub fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|case| case.name)
}

pub fn machine(name: &str, damage: &str, receiver: Which) -> Machine {
    let machine = Machine::new(
        &format!("{name}/{}-{damage}", receiver.name()),
        "hostile-luo",
        Debug,
        &[receiver, Ours],
    )
    .word(&format!("lu.damage={damage}"))
    .timeout(120);
    match CASES.iter().find(|case| case.name == damage) {
        Some(case) if !case.words.is_empty() => machine.word(case.words),
        _ => machine,
    }
}

/// Every case on our kernel, and one of them where the operator wants a panic.
pub fn all(lab: &Lab, name: &str) -> Result<Played> {
    let mut played = Played::default();
    for case in CASES {
        let machine = machine(name, case.name, Ours);
        let outcome = qemu::run(lab, &machine)?;
        let checks = check::any_run(&machine, &outcome)
            .into_iter()
            .chain(judge(case, &outcome));
        played.checks.extend(checks.map(|mut check| {
            check.name = format!("{}: {}", case.name, check.name);
            check
        }));
        played.logs.push(outcome.log);
    }
    let outcome = qemu::run(
        lab,
        &machine(&format!("{name}/panic"), TO_PANIC, Ours).word("liveupdate.on_error=panic"),
    )?;
    let panic = ["Kernel panic"];
    played.checks.push(check::says(
        &outcome,
        1,
        &format!("{TO_PANIC}: liveupdate.on_error=panic is obeyed"),
        &panic,
    ));
    played.logs.push(outcome.log);
    Ok(played)
}

fn judge(case: &Case, outcome: &Outcome) -> Vec<Check> {
    let mut checks = vec![named(case, outcome)];
    let told = outcome.event(1, "sessions");
    let open = told.map_or("not tried", |event| event.text("open"));
    checks.push(Check::new("/dev/liveupdate opens", open == "ok", open));
    for (name, fate) in [
        ("good-a", case.good),
        ("good-b", case.good),
        ("victim", case.victim),
    ] {
        let seen = told.and_then(|event| Seen::of(event, name));
        checks.push(Check::new(
            format!("{name} is {}", fate.in_words()),
            seen.as_ref().is_some_and(|seen| fate.allows(seen)),
            seen.map_or_else(|| "not asked for".to_owned(), |seen| seen.in_words()),
        ));
    }
    let nobody = told.map_or("", |event| event.text("nobody"));
    checks.push(Check::new(
        format!("an unknown name is {}", case.nobody.join(" or ")),
        case.nobody.contains(&nobody),
        nobody,
    ));
    let intact = outcome.event(2, "intact");
    checks.push(Check::new(
        "a clean update works afterwards",
        intact.is_some_and(|event| event.ok("ok")),
        intact.map_or("", |event| event.text("detail")),
    ));
    checks
}

/// The receiving kernel, in its own name, says what is wrong: what it also says after a clean
/// update does not count, nor does what lib/tests/liveupdate.c says.
fn named(case: &Case, outcome: &Outcome) -> Check {
    let clean: Vec<String> = said(outcome, 2).map(without_digits).collect();
    let line = said(outcome, 1).find(|line| {
        let text = line.to_ascii_lowercase();
        case.says.iter().any(|what| text.contains(what)) && !clean.contains(&without_digits(line))
    });
    Check::new(
        "the kernel names the fault",
        line.is_some(),
        line.map_or_else(
            || format!("no line with \"{}\"", case.says.join("\" or \"")),
            str::to_owned,
        ),
    )
}

/// What KHO and LUO say in a generation.
fn said(outcome: &Outcome, generation: usize) -> impl Iterator<Item = &str> {
    let lines = outcome.console.generation(generation).iter();
    lines.map(|line| console::message(line)).filter(|line| {
        let line = line.to_ascii_lowercase();
        let ours = ["luo", "kho", "liveupdate"];
        ours.iter().any(|who| line.starts_with(who)) && !line.starts_with("liveupdate test:")
    })
}

fn without_digits(line: &str) -> String {
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// What the guest saw of a session.
pub struct Seen {
    session: String,
    files: Vec<String>,
    finish: String,
}

impl Seen {
    pub fn of(event: &Event, name: &str) -> Option<Self> {
        let sessions = event.list("sessions");
        let found = sessions.iter().find(|one| one["name"] == name)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        let files = found["files"].as_array().cloned().unwrap_or_default();
        Some(Self {
            session: text("session"),
            files: files
                .iter()
                .map(|file| file.as_str().unwrap_or_default().to_owned())
                .collect(),
            finish: text("finish"),
        })
    }

    fn lost(&self) -> bool {
        self.session == "EBADMSG"
    }

    /// The memfds that are not intact, of a session that is there and was finished.
    fn wanting(&self) -> Option<Vec<&str>> {
        // Of a file that nobody has a driver for, FINISH says so; closing the session gives it up.
        let orphan = self.files.iter().any(|file| file == "ENODEV");
        let finished = self.finish == if orphan { "ENODEV" } else { "ok" };
        let there = self.session == "ok" && finished && !self.files.is_empty();
        let wanting = self.files.iter().filter(|file| *file != "intact");
        there.then(|| wanting.map(String::as_str).collect())
    }

    pub fn in_words(&self) -> String {
        if self.session != "ok" {
            return self.session.clone();
        }
        match self.wanting() {
            Some(none) if none.is_empty() => return "intact".to_owned(),
            _ => {}
        }
        let mut kinds = self.files.clone();
        kinds.dedup();
        format!("{}, FINISH {}", kinds.join(" "), self.finish)
    }
}

impl Fate {
    fn allows(self, seen: &Seen) -> bool {
        let wanting = seen.wanting();
        let intact = wanting.as_ref().is_some_and(Vec::is_empty);
        let one =
            |errors: &[&str]| matches!(wanting.as_deref(), Some([one]) if errors.contains(one));
        match self {
            Self::Intact => intact,
            Self::Lost => seen.lost(),
            Self::Either => intact || seen.lost(),
            Self::OneFile(errors) => one(errors),
            Self::LostOrOneFile(errors) => seen.lost() || one(errors),
        }
    }

    fn in_words(self) -> String {
        match self {
            Self::Intact => "intact".to_owned(),
            Self::Lost => "refused with EBADMSG".to_owned(),
            Self::Either => "intact, or refused with EBADMSG".to_owned(),
            Self::OneFile(errors) => format!("intact but for one memfd, {}", errors.join(" or ")),
            Self::LostOrOneFile(errors) => format!(
                "refused with EBADMSG, or intact but for one memfd, {}",
                errors.join(" or ")
            ),
        }
    }
}

/// What became of the sessions, for the table.
pub fn fate(outcome: &Outcome) -> String {
    let Some(event) = outcome.event(1, "sessions") else {
        return "not asked".to_owned();
    };
    let open = event.text("open");
    if open != "ok" {
        return format!("open: {open}");
    }
    let of = |name: &str| Seen::of(event, name).map_or_else(String::new, |seen| seen.in_words());
    let (a, b) = (of("good-a"), of("good-b"));
    let good = if a == b { a } else { format!("{a} and {b}") };
    let mut text = format!("victim: {}; others: {good}", of("victim"));
    let given = outcome
        .kind("check")
        .find(|check| check.text("name").starts_with("the lost") && !check.ok("ok"));
    if let Some(given) = given {
        text += &format!("; memory lost: {}", given.text("detail"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(session: &str, files: &[&str], finish: &str) -> Seen {
        Seen {
            session: session.to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            finish: finish.to_owned(),
        }
    }

    #[test]
    fn only_a_line_about_the_fault_names_it() {
        let mut outcome = Outcome {
            events: Vec::new(),
            console: console::Console::default(),
            log: std::path::PathBuf::new(),
            failure: None,
        };
        let mut boot = |number: u32, more: &str| {
            outcome.console.push("[    0.0] Linux version 7.3.4");
            for line in [
                &format!("LUO: update {number} brought 3 sessions"),
                "liveupdate test: flb-v0: found flb data",
                "other: victim, flb, session",
                more,
            ] {
                outcome.console.push(&format!("[    1.0] {line}"));
            }
        };
        boot(0, "");
        boot(1, "LUO: victim is damaged");
        boot(2, "");
        let found = |says| named(&session("", says, Fate::Lost), &outcome).passed;
        assert!(found(&["victim"]));
        assert!(!found(&["session"]));
        assert!(!found(&["flb"]));
    }

    #[test]
    fn a_fate_allows_what_it_says() {
        let intact = seen("ok", &["intact", "intact"], "ok");
        let one = seen("ok", &["intact", "ENODEV"], "ENODEV");
        let lost = seen("EBADMSG", &[], "");
        let gone = seen("ENOENT", &[], "");
        let unfinished = seen("ok", &["intact", "intact"], "EBUSY");
        let allowed =
            |fate: Fate| [&intact, &one, &lost, &gone, &unfinished].map(|seen| fate.allows(seen));
        assert_eq!(allowed(Fate::Intact), [true, false, false, false, false]);
        assert_eq!(allowed(Fate::Lost), [false, false, true, false, false]);
        assert_eq!(allowed(Fate::Either), [true, false, true, false, false]);
        let fate = Fate::OneFile(&["ENODEV"]);
        assert_eq!(allowed(fate), [false, true, false, false, false]);
        let silent = seen("ok", &["intact", "ENODEV"], "ok");
        assert!(
            !fate.allows(&silent),
            "FINISH must say that it has no driver"
        );
        let fate = Fate::OneFile(&["EBADMSG"]);
        assert_eq!(allowed(fate), [false; 5]);
    }
}
