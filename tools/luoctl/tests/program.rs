// SPDX-License-Identifier: GPL-2.0
//! The program itself, on a machine whose /sys and /run are made up: a mount namespace of a user of
//! its own, so no root is needed and nothing of this machine can be changed. LUOCTL names another
//! one to try.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SETUP: &str = r#"
set -e
mount -t tmpfs none /sys/kernel
mount -t tmpfs none /run
mkdir -p /sys/kernel/liveupdate
printf 1 > /sys/kernel/kexec_loaded
printf 1 > /sys/kernel/liveupdate/enabled
printf 'incoming waiting 1 0 4096 old\noutgoing open 2 0 8192 vm\n' > /sys/kernel/liveupdate/sessions
"#;

fn program() -> OsString {
    std::env::var_os("LUOCTL").unwrap_or_else(|| env!("CARGO_BIN_EXE_luoctl").into())
}

/// Runs a shell's line there, with `$luoctl` the program.
fn there(line: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!("{SETUP}\n{line}"))
        .env("luoctl", program());
    command
}

fn output(line: &str) -> Output {
    there(line).output().expect("unshare runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn nobody_reads() {
    for command in ["status", "status --json", "list", "--help"] {
        let line = format!("{{ \"$luoctl\" {command}; echo \"rc $?\" >&2; }} | true");
        let got = output(&format!("set +e\n{line}"));
        let said = text(&got.stderr);
        assert!(!said.contains("panicked"), "{command}: {said}");
        let code = said.lines().find_map(|line| line.strip_prefix("rc "));
        // The pipe's other end may still be open when the first line comes.
        assert!(matches!(code, Some("0" | "141")), "{command}: {said}");
    }
}

#[test]
fn who_may_not_look_is_told_so() {
    // Root's, when luoctl has no rights over the owner's.
    let line = "chmod 0 /sys/kernel/liveupdate/sessions; setpriv --bounding-set -all --inh-caps -all -- \"$luoctl\"";
    for (command, says) in [
        ("list", "only root may look"),
        ("list --json", "only root may look"),
        ("status", "not known: only root may look"),
        ("status --json", "\"sessions\":null"),
    ] {
        let got = output(&format!("{line} {command}"));
        let said = text(&got.stdout) + &text(&got.stderr);
        assert_eq!(got.status.code(), Some(4), "{command}: {said}");
        assert!(said.contains(says), "{command}: {said}");
        assert!(!said.contains("0 have arrived"), "{said}");
    }
    let may = output("\"$luoctl\" status");
    let said = text(&may.stdout);
    assert_eq!(may.status.code(), Some(0), "{said}");
    assert!(said.contains("1 have arrived, 1 go"), "{said}");
}

#[test]
fn without_luod_nothing_is_done() {
    for more in ["--strict", "--dry-run", ""] {
        let got = output(&format!("\"$luoctl\" update {more}"));
        let said = text(&got.stderr);
        assert_eq!(got.status.code(), Some(1), "{said}");
        assert!(said.contains("--without-luod"), "{said}");
    }
    let got = output("\"$luoctl\" update --dry-run --without-luod");
    assert_eq!(got.status.code(), Some(0), "{}", text(&got.stderr));
}

/// luod asks, and nobody answers: then the signal comes, from a shell as from a terminal.
#[test]
fn a_signal_in_the_middle_is_told_to_luod() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let line = format!("exec \"$luoctl\" --socket {} update", socket.display());
        let mut luoctl = there(&line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let (luod, _) = listener.accept().expect("luoctl");
        let mut lines = BufReader::new(&luod).lines();
        let prepare = lines.next().expect("a line").expect("text");
        assert!(prepare.contains("PREPARE"), "{prepare}");
        writeln!(&luod, r#"{{"version":1,"type":"PREPARING","clients":1}}"#).expect("said");
        let kill = format!("kill -{signal} {}", luoctl.id());
        let killed = Command::new("sh").args(["-c", &kill]).status();
        assert!(killed.expect("kill").success());
        let abort = lines.next().expect("a line").expect("text");
        assert!(abort.contains("ABORT"), "{abort}");
        writeln!(&luod, r#"{{"version":1,"type":"ABORTED","reason":"so"}}"#).expect("said");
        let ended = luoctl.wait().expect("ended");
        assert_eq!(ended.code(), Some(code), "{signal}");
    }
}

#[test]
fn one_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let (socket, folder) = (socket.display(), folder.path().display());
    // The second one in the same made-up machine, while the first one waits for services.
    let line = format!(
        "\"$luoctl\" --socket {socket} update --dry-run & first=$!
         while [ ! -e {folder}/asked ]; do read -t 0.05 _ < /dev/null || :; done
         \"$luoctl\" --socket {socket} update --dry-run; echo \"second $?\"
         \"$luoctl\" unload; echo \"unload $?\"
         : > {folder}/go; wait $first; echo \"first $?\""
    );
    let luoctl = there(&format!("set +e\n{line}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let (luod, _) = listener.accept().expect("luoctl");
    let mut lines = BufReader::new(&luod).lines();
    let mut word = || lines.next().expect("a line").expect("text");
    assert!(word().contains("PREPARE"));
    writeln!(&luod, r#"{{"version":1,"type":"PREPARING","clients":0}}"#).expect("said");
    std::fs::write(format!("{folder}/asked"), "").expect("written");
    while !Path::new(&format!("{folder}/go")).exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    writeln!(
        &luod,
        r#"{{"version":1,"type":"PREPARED","ready":0,"left_out":0}}"#
    )
    .expect("said");
    assert!(word().contains("FREEZE"));
    writeln!(&luod, r#"{{"version":1,"type":"FROZEN","sessions":0}}"#).expect("said");
    assert!(word().contains("ABORT"));
    writeln!(&luod, r#"{{"version":1,"type":"ABORTED","reason":"so"}}"#).expect("said");
    let got = luoctl.wait_with_output().expect("ended");
    let said = text(&got.stdout) + &text(&got.stderr);
    for part in [
        "second 1",
        "unload 1",
        "first 0",
        "`luoctl update --dry-run`",
        "is at it",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn abort_says_what_there_was() {
    let got = output("\"$luoctl\" abort");
    let said = text(&got.stdout);
    assert_eq!(got.status.code(), Some(0), "{said}");
    assert!(said.contains("no update is under way"), "{said}");
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let luoctl = there(&format!(
        "exec \"$luoctl\" --socket {} abort",
        socket.display()
    ))
    .stdout(Stdio::piped())
    .spawn()
    .expect("started");
    let (luod, _) = listener.accept().expect("luoctl");
    let mut lines = BufReader::new(&luod).lines();
    let mut word = || lines.next().expect("a line").expect("text");
    assert!(word().contains("STATUS"));
    let status = r#""status":{"phase":"frozen","connections":1,"clients":[],"arrived":[]}"#;
    writeln!(&luod, r#"{{"version":1,"type":"STATUS",{status}}}"#).expect("said");
    // A luod of before CALL_OFF.
    assert!(word().contains("CALL_OFF"));
    let unknown = r#"{"version":1,"type":"ERROR","error":{"code":"bad-message","message":"no"}}"#;
    writeln!(&luod, "{unknown}").expect("said");
    assert!(word().contains("\"ABORT\""));
    writeln!(&luod, r#"{{"version":1,"type":"ABORTED","reason":"so"}}"#).expect("said");
    let got = luoctl.wait_with_output().expect("ended");
    let said = text(&got.stdout);
    assert!(said.contains("that was frozen is called off"), "{said}");
}
