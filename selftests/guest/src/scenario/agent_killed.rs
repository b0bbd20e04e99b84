// SPDX-License-Identifier: GPL-2.0
//! kill -9 of the process that holds the device and sessions, after each of its steps. Before the
//! update all is undone; after it, what it had retrieved is finished, and the rest is still there
//! for the next one.

use super::ioctls::resizable;
use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::{event, kexec, machine};
use anyhow::{bail, Context, Result};
use liveupdate_uapi::{CreateSessionError, Device, RetrieveSessionError, Session};
use rustix::process::{pidfd_getfd, pidfd_open, Pid, PidfdFlags, PidfdGetfdFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const WISH: Wish = Wish {
    bytes: 256 << 10,
    depth: Depth::Full,
    huge: false,
    node: None,
};
/// Large enough to be missed in the count of free memory.
const LARGE: Wish = Wish {
    bytes: 48 << 20,
    ..WISH
};
const OUT: [&str; 2] = ["agent/one", "agent/two"];
/// What the agent has done when it is killed; it begins with nothing.
const STEPS_OUT: [&str; 6] = [
    "started",
    "opened the device",
    "made a session",
    "preserved a memfd",
    "made another with a memfd",
    "closed the device",
];
const STEPS_IN: [&str; 7] = [
    "started",
    "opened the device",
    "retrieved a session",
    "retrieved a file",
    "finished it",
    "retrieved another session",
    "closed the device",
];
/// Kills at a moment of chance.
const SURPRISES: u64 = 25;

pub fn play(cmdline: &Cmdline) -> Result<()> {
    if cmdline.generation() > 0 {
        return after();
    }
    before()?;
    let sessions = hand_over()?;
    kexec::load(cmdline)?;
    let result = kexec::jump();
    drop(sessions);
    result
}

/// Kills agents in the kernel that things are preserved in.
pub fn before() -> Result<()> {
    let files = [memory::filled(&WISH, 1)?, memory::filled(&WISH, 2)?];
    let fds = files.each_ref().map(|file| file.as_raw_fd().to_string());
    for (last, step) in STEPS_OUT.iter().enumerate() {
        let mut agent = Agent::start("agent-out", &fds)?;
        agent.let_do(last)?;
        agent.kill()?;
        judge(&format!("killed when it had {step}"), &files)?;
    }
    let mut places = BTreeSet::new();
    for surprise in 0..SURPRISES {
        let mut agent = Agent::start("agent-busy", &fds)?;
        agent.let_do(1)?;
        std::thread::sleep(Duration::from_micros(2000 + surprise * 300));
        places.insert(agent.kill()? % BUSY_STEPS);
        judge(&format!("killed by surprise {surprise}"), &files)?;
    }
    event::check(
        "the surprises came in different places",
        places.len() > 2,
        format!("after {places:?} steps"),
    );
    shared(&files, &fds)
}

/// Everything a killed agent had is undone.
fn judge(case: &str, files: &[File; 2]) -> Result<()> {
    let mut trouble = Vec::new();
    match Device::open() {
        Ok(device) => {
            for name in OUT {
                if let Err(error) = device.create_session(name) {
                    trouble.push(format!("{name}: {error}"));
                }
            }
            let session = device.create_session(OUT[0])?;
            for (file, token) in files.iter().zip(1..) {
                if !resizable(file) {
                    trouble.push(format!("memfd {token} cannot change its size"));
                }
                if let Err(error) = session.preserve(file, token) {
                    trouble.push(format!("memfd {token}: {error}"));
                }
            }
        }
        Err(error) => trouble.push(error.to_string()),
    }
    for (file, seed) in files.iter().zip(1..) {
        trouble.extend(memory::verify(file, &WISH, seed)?);
    }
    event::check(case, trouble.is_empty(), trouble.join("; "));
    Ok(())
}

/// A session that somebody else holds too outlives the agent.
fn shared(files: &[File; 2], fds: &[String; 2]) -> Result<()> {
    let mut agent = Agent::start("agent-out", fds)?;
    agent.let_do(3)?;
    let session = Session::from(agent.steal()?);
    agent.kill()?;
    let device = Device::open()?;
    let exists = device.create_session(OUT[0]).err() == Some(CreateSessionError::Exists);
    let kept = exists && session.name()?.as_bytes() == OUT[0].as_bytes() && !resizable(&files[0]);
    event::check("a session that another process has lives on", kept, "");
    drop((device, session));
    judge("and is undone when that one closes it", files)
}

fn hand_over() -> Result<Vec<Session>> {
    let device = Device::open()?;
    let mut sessions = Vec::new();
    for step in 0..STEPS_IN.len() {
        for (which, wish) in [("one", LARGE), ("two", WISH)] {
            let session = device.create_session(format!("{step}/{which}"))?;
            let large = if step == 2 { wish } else { WISH };
            session.preserve(memory::filled(&large, step as u64)?, 1)?;
            sessions.push(session);
        }
    }
    Ok(sessions)
}

/// Kills agents in the kernel that things have arrived in.
fn after() -> Result<()> {
    for (last, step) in STEPS_IN.iter().enumerate() {
        let before = machine::free_bytes()?;
        let mut agent = Agent::start("agent-in", &[last.to_string()])?;
        agent.let_do(last)?;
        agent.kill()?;
        let mut trouble = Vec::new();
        let back = machine::free_bytes()?.saturating_sub(before);
        if last == 2 && back < LARGE.bytes as u64 / 10 * 9 {
            trouble.push(format!("only {} KiB were freed", back >> 10));
        }
        match Device::open() {
            Ok(device) => {
                // The agent retrieves one at step 2, the other one at step 5.
                for (which, gone) in [("one", last >= 2), ("two", last >= 5)] {
                    trouble.extend(look_at(&device, last, which, gone)?);
                }
            }
            Err(error) => trouble.push(error.to_string()),
        }
        let case = format!("killed when it had {step}");
        event::check(&case, trouble.is_empty(), trouble.join("; "));
    }
    Ok(())
}

/// A session that the agent had retrieved must be gone; another one must be whole.
fn look_at(device: &Device, step: usize, which: &str, gone: bool) -> Result<Option<String>> {
    let name = format!("{step}/{which}");
    Ok(match (device.retrieve_session(&name), gone) {
        (Err(RetrieveSessionError::Unknown), true) => None,
        (Ok(session), false) => {
            let file = File::from(session.retrieve(1)?);
            session.finish()?;
            memory::verify(&file, &WISH, step as u64)?
        }
        (got, _) => Some(format!("{name}: {got:?}")),
    })
}

/// A process that does a step whenever it reads a line, and then writes one.
struct Agent {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
    /// What the last step left open.
    last: i32,
}

impl Agent {
    fn start(role: &str, arguments: &[String]) -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg(role)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start an agent")?;
        let said = process.stdout.take().context("the agent has no output")?;
        Ok(Self {
            process,
            said: BufReader::new(said),
            last: -1,
        })
    }

    /// Lets it do steps, and waits until they are done.
    fn let_do(&mut self, steps: usize) -> Result<()> {
        for _ in 0..steps {
            let input = self.process.stdin.as_mut();
            input.context("the agent has no input")?.write_all(b"\n")?;
            let mut line = String::new();
            self.said.read_line(&mut line)?;
            let Ok(last) = line.trim().parse() else {
                bail!("the agent says \"{}\"", line.trim());
            };
            self.last = last;
        }
        Ok(())
    }

    /// A duplicate of what its last step left open.
    fn steal(&self) -> Result<OwnedFd> {
        let pid = Pid::from_child(&self.process);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open failed")?;
        pidfd_getfd(pidfd, self.last, PidfdGetfdFlags::empty()).context("pidfd_getfd failed")
    }

    /// Kills it, and says how many more steps it has done since the last `let_do`.
    fn kill(mut self) -> Result<usize> {
        self.process.kill().context("cannot kill the agent")?;
        self.process.wait().context("cannot wait for the agent")?;
        Ok(self.said.lines().count())
    }
}

/// The agent's side: waits for a line, and says what descriptor a step has left.
fn step<T>(left: &T, fd: impl FnOnce(&T) -> i32) -> Result<()> {
    println!("{}", fd(left));
    std::io::stdout().flush()?;
    wait()
}

fn wait() -> Result<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn number<T: std::os::fd::AsFd>(of: &T) -> i32 {
    of.as_fd().as_raw_fd()
}

/// The two memfds of the process that started this one.
fn given_files() -> Result<(File, File)> {
    let parent = rustix::process::getppid().context("nobody started this agent")?;
    let mut files = std::env::args().skip(2).map(|fd| {
        let path = format!("/proc/{}/fd/{fd}", parent.as_raw_nonzero());
        File::options().read(true).write(true).open(path)
    });
    let mut file = || files.next().context("no memfd was given")?.context("open");
    Ok((file()?, file()?))
}

/// The agent before the update.
pub fn outgoing() -> Result<()> {
    let (one, two) = given_files()?;
    wait()?;
    let device = Device::open()?;
    step(&device, number)?;
    let session = device.create_session(OUT[0])?;
    step(&session, number)?;
    session.preserve(&one, 1)?;
    step(&session, number)?;
    let other = device.create_session(OUT[1])?;
    other.preserve(&two, 1)?;
    step(&other, number)?;
    drop(device);
    step(&session, number)?;
    wait()
}

/// How many lines `busy` writes in a round.
const BUSY_STEPS: usize = 5;

/// An agent that does it all again and again, without waiting.
pub fn busy() -> Result<()> {
    let (one, two) = given_files()?;
    wait()?;
    let device = Device::open()?;
    println!("{}", number(&device));
    loop {
        let session = device.create_session(OUT[0])?;
        println!("1");
        session.preserve(&one, 1)?;
        println!("2");
        let other = device.create_session(OUT[1])?;
        println!("3");
        other.preserve(&two, 1)?;
        println!("4");
        drop(session);
        println!("5");
    }
}

/// The agent after it.
pub fn incoming() -> Result<()> {
    let which = std::env::args().nth(2).context("no number was given")?;
    wait()?;
    let device = Device::open()?;
    step(&device, number)?;
    let session = device.retrieve_session(format!("{which}/one"))?;
    step(&session, number)?;
    let file = session.retrieve(1)?;
    step(&file, number)?;
    session.finish()?;
    step(&file, number)?;
    let other = device.retrieve_session(format!("{which}/two"))?;
    step(&other, number)?;
    drop(device);
    step(&other, number)?;
    wait()
}
