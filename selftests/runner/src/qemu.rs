// SPDX-License-Identifier: GPL-2.0
//! Runs one machine to its end: starts QEMU, gathers console and events as they come, writes the
//! log, keeps the time limit.

use crate::console::Console;
use crate::image;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::outcome::{Event, Outcome};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = "qemu-system-x86_64";

/// A machine that runs longer than this says where it is.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

enum Line {
    Console(String),
    Port(String),
}

/// Boots the machine and waits until it is off, or its time is over.
pub fn run(lab: &Lab, machine: &Machine) -> Result<Outcome> {
    run_watched(lab, machine, |_| {})
}

/// As `run`, and shows each event to `watch` when it comes.
pub fn run_watched(lab: &Lab, machine: &Machine, mut watch: impl FnMut(&Event)) -> Result<Outcome> {
    let folder = lab.folder(&machine.name)?;
    let initramfs = image::build(lab, machine, &folder)?;
    let kernel = lab.kernel(machine.first)?;
    let log = folder.join("console.log");
    let mut out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    // The machine must not outlive us, however we end.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", PROGRAM])
        .args(machine.arguments())
        .arg("-kernel")
        .arg(&kernel.bzimage)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", &machine.cmdline()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    writeln!(out, "$ {command:?}")?;
    let began = Instant::now();
    let child = command
        .spawn()
        .context("cannot start setpriv; install the package util-linux")?;
    let mut child = Reaped(child);
    let lines = gather(&mut child.0);

    let mut run = Run::default();
    let mut next_sign = SIGN_OF_LIFE;
    let ending = loop {
        let now = began.elapsed();
        if now >= next_sign {
            next_sign = now + SIGN_OF_LIFE;
            let at = run
                .console
                .lines()
                .next_back()
                .unwrap_or("nothing printed yet");
            lab.steps.say(&format!(
                "{}: {} s so far, at: {at}; log: {}",
                machine.name,
                now.as_secs(),
                log.display()
            ));
        }
        let wait = machine
            .timeout
            .saturating_sub(now)
            .min(next_sign.saturating_sub(now));
        match lines.recv_timeout(wait) {
            Ok(line) => {
                if let Some(event) = run.take(line, began.elapsed(), &mut out)? {
                    watch(event);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) if began.elapsed() < machine.timeout => {}
            Err(RecvTimeoutError::Timeout) => {
                break Some(format!("no end after {} s", machine.timeout.as_secs()));
            }
        }
    };
    drop(child);
    let failure = run.failure(ending);
    Ok(Outcome {
        events: run.events,
        console: run.console,
        log,
        failure,
    })
}

/// Ends QEMU when dropped, whatever happened.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads both pipes, each in a thread of its own; the channel ends with the later of the two.
fn gather(child: &mut Child) -> Receiver<Line> {
    fn read(from: Option<impl Read + Send + 'static>, to: Sender<Line>, make: fn(String) -> Line) {
        let Some(from) = from else { return };
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut bytes = Vec::new();
            while from
                .read_until(b'\n', &mut bytes)
                .is_ok_and(|count| count > 0)
            {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                if to.send(make(line)).is_err() {
                    return;
                }
            }
        });
    }
    let (to, lines) = channel();
    read(child.stdout.take(), to.clone(), Line::Console);
    read(child.stderr.take(), to, Line::Port);
    lines
}

/// What has come so far.
#[derive(Default)]
struct Run {
    events: Vec<Event>,
    console: Console,
    boots: usize,
    /// What QEMU itself said.
    complaints: Vec<String>,
}

impl Run {
    fn take(&mut self, line: Line, at: Duration, log: &mut File) -> Result<Option<&Event>> {
        match line {
            Line::Console(text) => {
                writeln!(log, "{text}")?;
                self.console.push(&text);
                Ok(None)
            }
            Line::Port(text) => {
                writeln!(log, "{text}")?;
                let Some(mut event) = Event::parse(&text, self.boots.saturating_sub(1), at) else {
                    if !text.starts_with("@@") && !text.trim().is_empty() {
                        self.complaints.push(text);
                    }
                    return Ok(None);
                };
                if event.kind() == "boot" {
                    event.generation = self.boots;
                    self.boots += 1;
                }
                self.events.push(event);
                Ok(self.events.last())
            }
        }
    }

    /// Why the run did not end well: the guest's own word first, then the kernel's, then QEMU's.
    fn failure(&self, ending: Option<String>) -> Option<String> {
        let done = self.events.iter().find(|event| event.kind() == "done");
        match done {
            Some(done) if done.ok("ok") && ending.is_none() => return None,
            Some(done) if !done.ok("ok") => {
                return Some(format!(
                    "in generation {}: {}",
                    done.generation,
                    done.text("error")
                ))
            }
            _ => {}
        }
        let what = ending.unwrap_or_else(|| "the machine ended too early".to_owned());
        let line = self
            .console
            .trouble()
            .or_else(|| self.console.lines().next_back());
        Some(match (line, self.complaints.first()) {
            (Some(line), _) => format!("{what}; the kernel's word: {line}"),
            (None, Some(complaint)) => format!("{what}; QEMU's word: {complaint}"),
            (None, None) => format!("{what}; nothing was printed"),
        })
    }
}
