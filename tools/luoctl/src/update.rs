// SPDX-License-Identifier: GPL-2.0
//! The whole update: load, ask, wait, freeze, kexec. Whatever ends it before the kexec undoes it.

use crate::cli::Update;
use crate::load::load_kernel;
use crate::report::{size, Report};
use crate::{sys, sysfs};
use anyhow::{anyhow, bail, ensure, Context, Result};
use luo_client::{Answer, Client, Failure, Outcome, Request};
use rustix::system::{reboot, RebootCommand};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often to look whether somebody has pressed Ctrl-C.
const LOOK: Duration = Duration::from_millis(200);
/// How long luod may take for what does not depend on services.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(report: &Report, socket: &Path, update: &Update) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut steps = Steps {
        report,
        stop,
        luod: None,
        unload: false,
        began: Instant::now(),
    };
    let result = steps.all(socket, update);
    // Only here when there was no kexec.
    steps.undo(match &result {
        Ok(()) => "it was a dry run",
        Err(_) => "the update is called off",
    });
    result
}

struct Steps<'a> {
    report: &'a Report,
    stop: Arc<AtomicBool>,
    luod: Option<Client>,
    /// The kernel was loaded by this command.
    unload: bool,
    began: Instant,
}

impl Steps<'_> {
    fn all(&mut self, socket: &Path, update: &Update) -> Result<()> {
        self.load(update)?;
        self.luod = match Client::connect(socket) {
            Ok(luod) => Some(luod),
            Err(Failure::Connection(error))
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                let at = Instant::now();
                self.phase(
                    "ask",
                    at,
                    "luod does not run: no services are asked",
                    json!({"luod": false}),
                );
                None
            }
            Err(error) => return Err(error.into()),
        };
        if self.luod.is_some() {
            self.ask(update)?;
            self.freeze(update.systemd)?;
        }
        self.check_stop()?;
        self.sessions();
        if update.dry_run {
            return Ok(());
        }
        self.jump(update.systemd)
    }

    /// One line: the phase, how long it took, and what was.
    fn phase(&self, name: &str, since: Instant, text: &str, more: serde_json::Value) {
        let seconds = since.elapsed().as_secs_f64();
        let mut object = json!({
            "phase": name,
            "seconds": seconds,
            "at": self.began.elapsed().as_secs_f64(),
        });
        if let (Some(object), serde_json::Value::Object(more)) = (object.as_object_mut(), more) {
            object.extend(more);
        }
        self.report
            .tell(&format!("{name:8} {seconds:7.3} s  {text}"), object);
    }

    fn check_stop(&self) -> Result<()> {
        ensure!(
            !self.stop.load(Ordering::Relaxed),
            "interrupted; nothing has changed"
        );
        Ok(())
    }

    /// luod has what goes along open: without it there is nothing to go to the next kernel for.
    fn check_luod(&mut self) -> Result<()> {
        let Some(luod) = &mut self.luod else {
            return Ok(());
        };
        match luod.read(Some(Instant::now())) {
            Err(Failure::Timeout) => Ok(()),
            Err(error) => Err(anyhow!("{error}; the update is called off")),
            Ok(answer) => bail!("luod has changed its mind: {answer:?}"),
        }
    }

    fn load(&mut self, update: &Update) -> Result<()> {
        let since = Instant::now();
        let Some(kernel) = &update.kernel else {
            ensure!(
                sysfs::kexec_loaded(),
                "no kernel is loaded; name one, or use `luoctl load` before"
            );
            self.phase(
                "load",
                since,
                "the kernel that is loaded already",
                json!({}),
            );
            return Ok(());
        };
        let loaded = load_kernel(self.report, kernel, &update.options)?;
        self.unload = true;
        let text = format!("Linux {}, {}", loaded.release, size(loaded.bytes));
        let object = json!({"release": loaded.release, "bytes": loaded.bytes});
        self.phase("load", since, &text, object);
        self.check_stop()
    }

    fn say(&mut self, request: &Request) -> Result<()> {
        let luod = self.luod.as_mut().context("there is no luod")?;
        Ok(luod.say(request)?)
    }

    /// What luod says next; gives up when somebody presses Ctrl-C, or nothing comes.
    fn hear(&mut self, patience: Duration) -> Result<Answer> {
        let until = Instant::now() + patience;
        loop {
            self.check_stop()?;
            let luod = self.luod.as_mut().context("there is no luod")?;
            match luod.read(Some(until.min(Instant::now() + LOOK))) {
                Err(Failure::Timeout) if Instant::now() < until => {}
                Err(error) => return Err(error.into()),
                Ok(Answer::Error { error, .. }) => {
                    let advice = match error.code {
                        luo_client::Code::Unclaimed => " (--force goes on all the same)",
                        _ => "",
                    };
                    return Err(anyhow!("luod: {}{advice}", error.message));
                }
                Ok(Answer::Aborted { reason }) => {
                    bail!("luod has called the update off: {reason}");
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    fn ask(&mut self, update: &Update) -> Result<()> {
        let since = Instant::now();
        self.say(&Request::Prepare {
            deadline_ms: update.deadline.map(|seconds| seconds * 1000),
            strict: update.strict,
            force: update.force,
        })?;
        loop {
            // luod keeps the deadline, which may be a long one.
            match self.hear(Duration::from_secs(2 * 86_400))? {
                Answer::Preparing { clients } => {
                    let text = format!("{clients} services are asked to preserve");
                    self.phase("ask", since, &text, json!({"clients": clients}));
                }
                Answer::Client {
                    id,
                    uid,
                    outcome,
                    reason,
                    ..
                } => {
                    let text = match outcome {
                        Outcome::Ready => format!("{id} of user {uid} is ready"),
                        Outcome::LeftOut => {
                            format!("{id} of user {uid} is left out: {reason}")
                        }
                    };
                    self.phase(
                        "service",
                        since,
                        &text,
                        json!({"id": id, "uid": uid, "outcome": outcome, "reason": reason}),
                    );
                }
                Answer::Prepared { ready, left_out } => {
                    let text = format!("{ready} services are ready, {left_out} are left out");
                    let object = json!({"ready": ready, "left_out": left_out});
                    self.phase("wait", since, &text, object);
                    return Ok(());
                }
                other => bail!("luod said {other:?}"),
            }
        }
    }

    fn freeze(&mut self, hold: bool) -> Result<()> {
        let since = Instant::now();
        self.say(&Request::Freeze { hold })?;
        match self.hear(PATIENCE)? {
            Answer::Frozen { sessions } => {
                let text = format!("luod's record names {sessions} sessions");
                self.phase("freeze", since, &text, json!({"sessions": sessions}));
                Ok(())
            }
            other => bail!("luod said {other:?}"),
        }
    }

    /// What goes along, whoever made it.
    fn sessions(&self) {
        let since = Instant::now();
        let all = sysfs::sessions();
        let out: Vec<_> = all
            .iter()
            .filter(|session| session.side.as_deref() != Some("incoming"))
            .collect();
        let bytes = out.iter().filter_map(|session| session.bytes).sum();
        let text = format!("{} sessions go along, {}", out.len(), size(bytes));
        let object = json!({"sessions": out, "bytes": bytes});
        self.phase("check", since, &text, object);
    }

    fn jump(&mut self, systemd: bool) -> Result<()> {
        if systemd {
            let since = Instant::now();
            let done = Command::new("systemctl").arg("kexec").status();
            let done = done.context("cannot run systemctl")?;
            ensure!(done.success(), "systemctl kexec failed ({done})");
            self.phase("kexec", since, "systemd shuts down and goes on", json!({}));
            // It is systemd's now.
            self.unload = false;
            self.luod = None;
            return Ok(());
        }
        let since = Instant::now();
        rustix::fs::sync();
        // That may have taken long.
        self.check_stop()?;
        self.check_luod()?;
        self.phase("kexec", since, "to the next kernel", json!({}));
        // On a serial console the line would be cut off.
        let _ = std::io::stdout().flush();
        let _ = rustix::termios::tcdrain(std::io::stdout());
        let error = match reboot(RebootCommand::Kexec) {
            Ok(()) => "it came back".to_owned(),
            Err(errno) => errno.to_string(),
        };
        let word = sysfs::value("last_error").filter(|word| !word.is_empty());
        let word = word.map_or(String::new(), |word| format!(" ({word})"));
        bail!("the kernel refused the update: {error}{word}; everything is as before")
    }

    /// Takes back what was done.
    fn undo(&mut self, why: &str) {
        if self.luod.is_some() {
            let abort = Request::Abort {
                id: None,
                reason: why.to_owned(),
            };
            // When luod is gone, or hangs, the end of the connection says the same.
            if self.say(&abort).is_ok() {
                self.stop.store(false, Ordering::Relaxed);
                let until = Instant::now() + Duration::from_secs(5);
                while let Some(luod) = &mut self.luod {
                    match luod.read(Some(until)) {
                        Ok(Answer::Aborted { .. }) | Err(_) => break,
                        Ok(_) => {}
                    }
                }
            }
        }
        if self.unload {
            if let Err(error) = sys::kexec_unload() {
                self.report.remark(&format!(
                    "the kernel that was loaded could not be unloaded: {error}"
                ));
            }
        }
    }
}
