// SPDX-License-Identifier: GPL-2.0
//! An update on a machine that is none, with a luod that does as it is told: whatever ends it, and
//! when, it is undone.

use super::*;
use crate::cli::{Arguments, Command, LoadOptions};
use crate::ending::{code, MayNot};
use crate::load::Loaded;
use crate::sysfs::Listed;
use clap::Parser;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Mutex;

/// What happened, in order: calls of the machine, and what luod heard.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: &str) {
    log.lock().expect("a log").push(what.to_owned());
}

struct Fake {
    folder: tempfile::TempDir,
    log: Log,
    stop: Arc<AtomicUsize>,
    /// At which call, or at which word to luod, this signal comes.
    signal: Option<(&'static str, i32)>,
    installed: bool,
    open: usize,
    systemd: &'static str,
    panics: bool,
}

impl Fake {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            log: Log::default(),
            stop: Arc::default(),
            signal: None,
            installed: false,
            open: 0,
            systemd: "262",
            panics: false,
        }
    }

    fn at(&self, what: &str) {
        note(&self.log, what);
        signal(&self.stop, self.signal, what);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn luod(&self, says: fn(&str) -> Vec<&'static str>) {
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let (log, stop, at) = (Arc::clone(&self.log), Arc::clone(&self.stop), self.signal);
        std::thread::spawn(move || {
            let (socket, _) = listener.accept().expect("luoctl");
            serve(&socket, says, &|word| {
                note(&log, word);
                signal(&stop, at, word);
            });
        });
    }

    fn update(&self, out: Box<dyn Write>, arguments: &[&str]) -> Result<()> {
        let line = ["luoctl", "update"].iter().chain(arguments);
        let parsed = Arguments::try_parse_from(line).expect("a command line");
        let Command::Update(update) = parsed.command else {
            panic!("no update");
        };
        let patience = Patience {
            answer: Duration::from_secs(5),
            quiet: Duration::from_millis(300),
            undo: Duration::from_secs(5),
        };
        let (report, stop) = (Report::to(false, out), Arc::clone(&self.stop));
        drive(&report, self, stop, patience, &self.socket(), &update)
    }

    /// The log, when luod has heard the end of the connection.
    fn log(&self, until: &str) -> Vec<String> {
        for _ in 0..500 {
            let log = self.log.lock().expect("a log").clone();
            if log.iter().any(|word| word == until) {
                return log;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no {until} in {:?}", self.log);
    }
}

fn signal(stop: &AtomicUsize, at: Option<(&str, i32)>, what: &str) {
    if let Some((_, number)) = at.filter(|(at, _)| *at == what) {
        stop.store(number as usize, Ordering::Relaxed);
    }
}

fn serve(mut socket: &UnixStream, says: fn(&str) -> Vec<&'static str>, heard: &dyn Fn(&str)) {
    for line in BufReader::new(socket).lines().map_while(io::Result::ok) {
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let word = line["type"].as_str().expect("a type");
        heard(word);
        for answer in says(word) {
            // After an ABORT nobody may listen.
            let _ = writeln!(socket, "{{\"version\":1,{answer}}}");
        }
    }
    heard("end");
}

impl Machine for Fake {
    fn lock(&self) -> PathBuf {
        self.folder.path().join("lock")
    }

    fn load(&self, _: &Report, _: &Path, _: &LoadOptions) -> Result<Loaded> {
        self.at("load");
        Ok(Loaded {
            release: "7.3.4".into(),
            bytes: 5,
        })
    }

    fn unload(&self) -> io::Result<()> {
        note(&self.log, "unload");
        Ok(())
    }

    fn kexec_loaded(&self) -> bool {
        true
    }

    fn sessions(&self) -> Result<Vec<Listed>, MayNot> {
        self.at("sessions");
        let one = Listed {
            side: Some("outgoing".into()),
            state: "open".into(),
            files: Some(1),
            retrieved: Some(0),
            bytes: Some(4096),
            name: "vm".into(),
            open_in: Vec::new(),
        };
        Ok(vec![one; self.open])
    }

    fn luod_installed(&self) -> Option<PathBuf> {
        self.installed.then(|| "/usr/sbin/luod".into())
    }

    fn systemd(&self) -> Result<String> {
        Ok(self.systemd.into())
    }

    fn shut_down(&self) -> Result<()> {
        self.at("shut down");
        bail!("systemctl kexec failed")
    }

    fn jump(&self) -> String {
        self.at("jump");
        assert!(!self.panics, "a panic in the middle");
        "Device or resource busy".into()
    }
}

fn good(word: &str) -> Vec<&'static str> {
    match word {
        "PREPARE" => vec![
            r#""type":"PREPARING","clients":1"#,
            r#""type":"CLIENT","id":"a","uid":7,"outcome":"left-out","reason":"x\n\u001b[2J","ms":1"#,
            r#""type":"PREPARED","ready":0,"left_out":1"#,
        ],
        "FREEZE" => vec![r#""type":"FROZEN","sessions":1"#],
        "ABORT" => vec![r#""type":"ABORTED","reason":"so it was asked""#],
        _ => Vec::new(),
    }
}

/// Takes so many lines, and is closed then.
struct Pipe {
    left: usize,
    text: Arc<Mutex<Vec<u8>>>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.text.lock().expect("a text").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.left = self.left.saturating_sub(1);
        Ok(())
    }
}

fn sink() -> Box<dyn Write> {
    Box::new(io::sink())
}

#[test]
fn without_luod_it_does_not_go_when_anything_may_be_lost() {
    for (installed, open, says) in [(true, 0, "/usr/sbin/luod"), (false, 3, "3 sessions")] {
        for more in [&[][..], &["--strict"], &["--dry-run"]] {
            let mut fake = Fake::new();
            (fake.installed, fake.open) = (installed, open);
            let arguments = [&["/vmlinuz"], more].concat();
            let error = fake
                .update(sink(), &arguments)
                .expect_err("not without luod");
            let text = error.to_string();
            assert!(
                text.contains(says) && text.contains("--without-luod"),
                "{text}"
            );
            assert_eq!(code(&error), 1);
            let log = fake.log.lock().expect("a log").clone();
            assert!(!log.iter().any(|word| word != "sessions"), "{log:?}");
        }
        let mut fake = Fake::new();
        (fake.installed, fake.open) = (installed, open);
        let meant = ["/vmlinuz", "--without-luod", "--dry-run"];
        fake.update(sink(), &meant).expect("a dry run");
    }
    let nothing = Fake::new();
    nothing
        .update(sink(), &["/vmlinuz", "--dry-run"])
        .expect("nothing to lose");
}

#[test]
fn the_second_changes_nothing() {
    let fake = Fake::new();
    fake.luod(good);
    let first = lock::take(&fake.lock(), "luoctl update").expect("taken");
    let error = fake
        .update(sink(), &["/vmlinuz", "--dry-run"])
        .expect_err("the second");
    assert!(error.to_string().contains("`luoctl update`"), "{error}");
    assert_eq!(code(&error), 1);
    assert_eq!(*fake.log.lock().expect("a log"), [""; 0]);
    drop(first);
}

/// By another way than luoctl's lock: what luod has under way is not called off, and only the own
/// kernel is unloaded.
#[test]
fn what_another_drives_goes_on() {
    let fake = Fake::new();
    fake.luod(|word| match word {
        "PREPARE" => {
            vec![r#""type":"ERROR","error":{"code":"wrong-state","message":"one is under way"}"#]
        }
        other => good(other),
    });
    let error = fake
        .update(sink(), &["--dry-run"])
        .expect_err("another drives");
    assert!(error.to_string().contains("luoctl abort"), "{error}");
    let log = fake.log("end");
    assert_eq!(log, ["PREPARE", "end"]);
}

#[test]
fn a_signal_at_any_step_undoes_all() {
    let signals = [(SIGINT, 130), (SIGTERM, 143), (SIGHUP, 129)];
    for at in ["load", "PREPARE", "FREEZE", "sessions"] {
        for (signal, exit) in signals {
            let mut fake = Fake::new();
            fake.signal = Some((at, signal));
            fake.luod(good);
            let error = fake
                .update(sink(), &["/vmlinuz"])
                .expect_err("a signal came");
            assert_eq!(code(&error), exit, "{at}: {error}");
            let log = fake.log("end");
            assert!(!log.iter().any(|word| word == "jump"), "{at}: {log:?}");
            let count = |what: &str| log.iter().filter(|word| *word == what).count();
            assert_eq!(count("unload"), 1, "{at}: {log:?}");
            assert_eq!(count("ABORT"), count("PREPARE"), "{at}: {log:?}");
        }
    }
}

#[test]
fn a_pipe_that_is_closed_at_any_line_undoes_all() {
    let mut whole = 0;
    for lines in 0..20 {
        let fake = Fake::new();
        fake.luod(good);
        let text = Arc::default();
        let pipe = Pipe {
            left: lines,
            text: Arc::clone(&text),
        };
        let error = fake
            .update(Box::new(pipe), &["/vmlinuz"])
            .expect_err("it does not jump");
        let log = fake.log("end");
        let count = |what: &str| log.iter().filter(|word| *word == what).count();
        assert_eq!(count("unload"), 1, "{lines}: {log:?}");
        assert_eq!(count("ABORT"), count("PREPARE"), "{lines}: {log:?}");
        // All lines were read: it has come to the jump, which failed.
        if count("jump") == 1 {
            whole = lines;
            assert_eq!(code(&error), 1);
            break;
        }
        assert_eq!(code(&error), 141, "{lines}: {error}");
    }
    assert!(whole >= 6, "{whole}");
}

#[test]
fn what_a_service_says_cannot_pass_for_a_line() {
    let fake = Fake::new();
    fake.luod(good);
    let text = Arc::default();
    let pipe = Pipe {
        left: 99,
        text: Arc::clone(&text),
    };
    fake.update(Box::new(pipe), &["--dry-run"])
        .expect("a dry run");
    let text = String::from_utf8(text.lock().expect("a text").clone()).expect("text");
    assert!(text.contains("left out: x\\n\\u{1b}[2J\n"), "{text}");
}

#[test]
fn an_old_systemd_is_refused_before_anybody_is_asked() {
    let mut fake = Fake::new();
    fake.systemd = "252.38-1~deb12u1";
    fake.luod(good);
    let error = fake
        .update(sink(), &["/vmlinuz", "--systemd"])
        .expect_err("too old");
    let text = error.to_string();
    assert!(text.contains("252.38") && text.contains("261"), "{text}");
    assert_eq!(*fake.log.lock().expect("a log"), [""; 0]);
}

#[test]
fn what_fails_at_the_end_is_undone_also_by_a_panic() {
    for (arguments, last) in [
        (&["/vmlinuz"][..], "jump"),
        (&["/vmlinuz", "--systemd"], "shut down"),
    ] {
        let fake = Fake::new();
        fake.luod(good);
        fake.update(sink(), arguments).expect_err("it came back");
        let log = fake.log("end");
        let after = log.iter().skip_while(|word| *word != last);
        let after: Vec<&str> = after.skip(1).map(String::as_str).collect();
        assert!(
            after.contains(&"ABORT") && after.contains(&"unload"),
            "{log:?}"
        );
    }
    let mut fake = Fake::new();
    fake.panics = true;
    fake.luod(good);
    let caught = std::panic::AssertUnwindSafe(|| fake.update(sink(), &["/vmlinuz"]));
    std::panic::catch_unwind(caught).expect_err("a panic");
    let log = fake.log("end");
    assert!(
        log.contains(&"ABORT".into()) && log.contains(&"unload".into()),
        "{log:?}"
    );
}

#[test]
fn a_luod_that_hangs_is_noticed() {
    let fake = Fake::new();
    fake.luod(|word| match word {
        "PREPARE" => vec![r#""type":"PREPARING","clients":1"#],
        "STATUS" => Vec::new(),
        other => good(other),
    });
    let error = fake.update(sink(), &["/vmlinuz"]).expect_err("it hangs");
    assert!(error.to_string().contains("does not answer"), "{error}");
    let log = fake.log("end");
    assert!(
        log.contains(&"ABORT".into()) && log.contains(&"unload".into()),
        "{log:?}"
    );
}

/// Services may take longer than luod is given to answer.
#[test]
fn a_luod_that_is_well_is_waited_for() {
    let fake = Fake::new();
    fake.luod(|word| match word {
        "PREPARE" => vec![r#""type":"PREPARING","clients":1"#],
        "STATUS" => vec![
            r#""type":"STATUS","status":{"phase":"preparing","connections":1,"clients":[],"arrived":[]}"#,
            r#""type":"PREPARED","ready":1,"left_out":0"#,
        ],
        other => good(other),
    });
    fake.update(sink(), &["/vmlinuz", "--dry-run"])
        .expect("a dry run");
}
