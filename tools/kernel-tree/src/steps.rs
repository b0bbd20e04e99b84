// SPDX-License-Identifier: GPL-2.0
//! Long steps, told to a person: what runs, for how long, where its log is, and why it failed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

/// A step that runs longer than this says that it is still alive.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How often a running step is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How much of a failed step's log is shown.
const SHOWN_LINES: usize = 15;

/// Progress for a person: announces each step with the time since the start and the path of its
/// log, gives a sign of life while it runs, and shows the end of the log when it fails.
///
/// All of it goes to standard error, so that what a program prints as its result stays clean.
pub struct Steps {
    log_dir: PathBuf,
    start: Instant,
}

impl Steps {
    /// Steps whose logs go to `log_dir`, which is created when the first one runs.
    pub fn new(log_dir: impl Into<PathBuf>) -> Self {
        Self {
            log_dir: log_dir.into(),
            start: Instant::now(),
        }
    }

    /// Says one line, with the time since the start in front.
    pub fn say(&self, line: &str) {
        eprintln!("[{:>4}s] {line}", self.start.elapsed().as_secs());
    }

    /// Where the step `name` leaves its output.
    pub fn log_path(&self, name: &str) -> PathBuf {
        let slug: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        self.log_dir.join(format!("{}.log", slug.trim_matches('-')))
    }

    /// Runs `cmd` as the step `name`; its output goes to the log.
    ///
    /// # Errors
    ///
    /// When the command cannot be started or does not exit with 0; the end of its log has then
    /// been shown.
    pub fn run(&self, name: &str, cmd: &mut Command) -> Result<()> {
        self.run_terse(name, cmd).inspect_err(|_| {
            let text = read_lossy(&self.log_path(name));
            for line in tail(&text, SHOWN_LINES) {
                eprintln!("        {line}");
            }
        })
    }

    /// Like [`Steps::run`], for a caller that shows what matters of the log itself.
    pub fn run_terse(&self, name: &str, cmd: &mut Command) -> Result<()> {
        let log_path = self.log_path(name);
        fs::create_dir_all(&self.log_dir)
            .with_context(|| format!("cannot create the log folder {}", self.log_dir.display()))?;
        let mut log = File::create(&log_path)
            .with_context(|| format!("cannot write the log {}", log_path.display()))?;
        // The command stands first in the log, so that it can be run again by hand.
        let _ = writeln!(log, "$ {cmd:?}");
        let out = log.try_clone().context("cannot share the log file")?;
        cmd.stdin(Stdio::null()).stdout(out).stderr(log);

        self.say(&format!("{name} ... log: {}", log_path.display()));
        let began = Instant::now();
        let program = cmd.get_program().to_string_lossy().into_owned();
        let mut child = cmd
            .spawn()
            .with_context(|| format!("{name}: cannot start {program}; is it installed?"))?;
        let mut next = HEARTBEAT;
        let status = loop {
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("{name}: cannot wait for {program}"))?
            {
                break status;
            }
            if began.elapsed() >= next {
                next += HEARTBEAT;
                let at = last_line(&log_path);
                self.say(&format!(
                    "{name}: {}s so far{at}",
                    began.elapsed().as_secs()
                ));
            }
            thread::sleep(POLL);
        };
        if status.success() {
            self.say(&format!("{name}: done in {}s", began.elapsed().as_secs()));
            return Ok(());
        }
        let text = read_lossy(&log_path);
        let took = began.elapsed().as_secs();
        self.say(&format!("{name}: FAILED after {took}s"));
        let why = first_error(&text).map_or(String::new(), |l| format!(": {l}"));
        bail!("{name} failed ({status}){why}; see {}", log_path.display());
    }

    /// The text the step `name` left in its log, empty when there is none.
    pub fn log_text(&self, name: &str) -> String {
        read_lossy(&self.log_path(name))
    }
}

/// Logs hold whatever programs print, not always UTF-8.
fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default()
}

fn last_line(log: &Path) -> String {
    let text = read_lossy(log);
    match text.lines().rev().find(|l| !l.trim().is_empty()) {
        Some(line) => {
            let short: String = line.trim().chars().take(60).collect();
            format!(", at: {short}")
        }
        None => String::new(),
    }
}

/// The first line is the command itself, which is long and says nothing of the failure.
fn tail(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().skip(1).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// The first line that names an error, in the manner of compilers, apt or make.
fn first_error(text: &str) -> Option<&str> {
    text.lines().skip(1).map(str::trim).find(|l| {
        l.starts_with("E: ")
            || l.starts_with("error[")
            || l.contains("error:")
            || l.contains(" *** ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_names_its_first_error_and_log() {
        let dir = tempfile::tempdir().unwrap();
        let steps = Steps::new(dir.path());
        let mut cmd = Command::new("sh");
        cmd.args([
            "-c",
            "echo fine; echo 'a.c:1: error: bad'; echo after; exit 3",
        ]);
        let err = steps.run("building x/y", &mut cmd).unwrap_err().to_string();
        assert!(err.contains("a.c:1: error: bad"), "{err}");
        assert!(err.contains("building-x-y.log"), "{err}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let err = Steps::new(dir.path())
            .run("x", &mut Command::new("/no/such/program"))
            .unwrap_err();
        assert!(err.to_string().contains("/no/such/program"), "{err}");
    }
}
