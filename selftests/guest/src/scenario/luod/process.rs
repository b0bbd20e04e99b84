// SPDX-License-Identifier: GPL-2.0
//! A program whose words are listened to.

use anyhow::{bail, Context, Result};
use rustix::process::{kill_process, Pid, Signal};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::{Duration, Instant};

/// Killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Program {
    /// Starts a program as a user.
    pub fn start(path: &str, arguments: &[&str], uid: u32, gid: u32) -> Result<Self> {
        let mut command = Command::new(path);
        command.args(arguments).uid(uid).gid(gid);
        Self::spawn(command)
    }

    /// Starts a command, and listens to both of its outputs.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let (to, lines) = channel();
        let out = child.stdout.take().context("no output")?;
        let errors = child.stderr.take().context("no output")?;
        let also = to.clone();
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.for_each(|line| drop(to.send(line)));
        });
        std::thread::spawn(move || {
            let lines = BufReader::new(errors).lines().map_while(Result::ok);
            lines.for_each(|line| drop(also.send(line)));
        });
        Ok(Self {
            child,
            lines,
            heard: Vec::new(),
        })
    }

    /// The next line it says.
    pub fn line(&mut self, limit: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(limit).ok()?;
        self.heard.push(line.clone());
        Some(line)
    }

    /// Waits until it says a line that begins so.
    pub fn expect(&mut self, begin: &str, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        while let Some(line) = self.line(until.saturating_duration_since(Instant::now())) {
            if line.starts_with(begin) {
                return Ok(line);
            }
        }
        bail!("it did not say \"{begin}\" but: {}", self.heard.join(" / "))
    }

    /// All it has said and that was listened to.
    pub fn all(&self) -> String {
        self.heard.join(" / ")
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("kill failed")
    }

    /// Waits until it ends by itself.
    pub fn end(&mut self, limit: Duration) -> Result<Option<i32>> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                while let Some(line) = self.line(Duration::from_millis(50)) {
                    drop(line);
                }
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it does not end: {}", self.all())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
