// SPDX-License-Identifier: GPL-2.0
//! The whole update: load, ask, wait, freeze, kexec. Whatever ends it before the kexec undoes it.

use crate::cli::Update;
use crate::ending::Interrupted;
use crate::lock;
use crate::luod::absent;
use crate::machine::{able, Machine, This};
use crate::report::{plain, size, Report};
use anyhow::{anyhow, bail, ensure, Context, Result};
use luo_client::{Answer, Client, Failure, Outcome, Request};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often to look whether somebody has pressed Ctrl-C.
const LOOK: Duration = Duration::from_millis(200);

/// How long luod is waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// For what does not depend on services.
    answer: Duration,
    /// Without a word while services preserve, before luod is asked whether it is well.
    quiet: Duration,
    /// For calling it off.
    undo: Duration,
}

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(60),
    quiet: Duration::from_secs(20),
    undo: Duration::from_secs(5),
};

pub fn run(report: &Report, socket: &Path, update: &Update) -> Result<()> {
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let number = usize::try_from(signal)?;
        signal_hook::flag::register_usize(signal, Arc::clone(&stop), number)?;
    }
    drive(report, &This, stop, PATIENCE, socket, update)
}

fn drive(
    report: &Report,
    machine: &dyn Machine,
    stop: Arc<AtomicUsize>,
    patience: Patience,
    socket: &Path,
    update: &Update,
) -> Result<()> {
    let what = match update.dry_run {
        true => "luoctl update --dry-run",
        false => "luoctl update",
    };
    let mut steps = Steps {
        report,
        machine,
        stop,
        patience,
        luod: None,
        driving: Driving::No,
        unload: false,
        why: "luoctl has ended",
        began: Instant::now(),
        _lock: lock::take(&machine.lock(), what)?,
    };
    let result = steps.all(socket, update);
    steps.why = match result {
        Ok(()) => "it was a dry run",
        Err(_) => "the update is called off",
    };
    // Only here when there was no kexec. Dropped, it undoes what it did.
    result
}

/// Whether the update that luod has under way is this one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driving {
    No,
    /// luod was asked to, and has not answered.
    Asked,
    Yes,
}

struct Steps<'a> {
    report: &'a Report,
    machine: &'a dyn Machine,
    /// The signal that came, if one did.
    stop: Arc<AtomicUsize>,
    patience: Patience,
    luod: Option<Client>,
    driving: Driving,
    /// The kernel was loaded by this command.
    unload: bool,
    why: &'static str,
    began: Instant,
    /// Given back last.
    _lock: lock::Lock,
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        self.undo();
    }
}

impl Steps<'_> {
    fn all(&mut self, socket: &Path, update: &Update) -> Result<()> {
        if update.systemd {
            able(&self.machine.systemd()?)?;
        }
        self.luod = match Client::connect(socket) {
            Ok(luod) => Some(luod),
            Err(failure) if absent(&failure) => {
                self.without_luod(update.without_luod)?;
                None
            }
            Err(failure) => return Err(failure.into()),
        };
        self.load(update)?;
        if self.luod.is_some() {
            self.ask(update)?;
            self.freeze(update.systemd)?;
        }
        self.check_stop()?;
        self.sessions();
        self.check_stop()?;
        if update.dry_run {
            return Ok(());
        }
        self.jump(update.systemd)
    }

    /// Goes on only if nothing can be lost, or somebody has said so.
    fn without_luod(&self, meant: bool) -> Result<()> {
        let since = Instant::now();
        let mut speaks = Vec::new();
        if let Some(place) = self.machine.luod_installed() {
            speaks.push(format!("it is installed ({})", place.display()));
        }
        match self.machine.sessions() {
            Ok(all) => {
                let open = all.iter().filter(|one| one.state != "finished").count();
                if open > 0 {
                    speaks.push(format!("{open} sessions are open or wait"));
                }
            }
            Err(error) => speaks.push(error.to_string()),
        }
        ensure!(
            meant || speaks.is_empty(),
            "luod does not run, and what services have may be lost: {}. Start luod, or go on all the same with --without-luod",
            speaks.join(", and ")
        );
        let text = "luod does not run: no services are asked";
        self.phase("ask", since, text, json!({"luod": false}));
        Ok(())
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
        if self.report.broken().is_some() {
            return Err(Interrupted(SIGPIPE).into());
        }
        match i32::try_from(self.stop.load(Ordering::Relaxed))? {
            0 => Ok(()),
            signal => Err(Interrupted(signal).into()),
        }
    }

    /// luod has what goes along open: without it there is nothing to go to the next kernel for.
    fn check_luod(&mut self) -> Result<()> {
        let Some(luod) = &mut self.luod else {
            return Ok(());
        };
        match luod.read(Some(Instant::now())) {
            Err(Failure::Timeout) => Ok(()),
            Err(error) => Err(anyhow!("{error}; the update is called off")),
            Ok(Answer::Aborted { reason }) => {
                self.driving = Driving::No;
                bail!("luod has called the update off: {}", plain(&reason));
            }
            Ok(answer) => bail!(
                "luod has changed its mind: {}",
                plain(&format!("{answer:?}"))
            ),
        }
    }

    fn load(&mut self, update: &Update) -> Result<()> {
        let since = Instant::now();
        let Some(kernel) = &update.kernel else {
            ensure!(
                self.machine.kexec_loaded(),
                "no kernel is loaded; name one, or use `luoctl load` before"
            );
            self.phase(
                "load",
                since,
                "the kernel that is loaded already",
                json!({}),
            );
            return self.check_stop();
        };
        if self.machine.kexec_loaded() {
            self.report.remark(
                "the kernel that was loaded before is replaced, also if the update is called off",
            );
        }
        let loaded = self.machine.load(self.report, kernel, &update.options)?;
        self.unload = true;
        let text = format!("Linux {}, {}", plain(&loaded.release), size(loaded.bytes));
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
                        luo_client::Code::WrongState => {
                            " (`luoctl status` says more, `luoctl abort` calls that one off)"
                        }
                        _ => "",
                    };
                    if self.driving == Driving::Asked {
                        self.driving = Driving::No;
                    }
                    return Err(anyhow!("luod: {}{advice}", plain(&error.message)));
                }
                Ok(Answer::Aborted { reason }) => {
                    self.driving = Driving::No;
                    bail!("luod has called the update off: {}", plain(&reason));
                }
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// What luod says next, as long as services may take; luod itself is asked from time to time
    /// whether it is well.
    fn hear_of_services(&mut self) -> Result<Answer> {
        let mut asked = false;
        loop {
            match self.hear(self.patience.quiet) {
                Ok(Answer::Status { .. }) => asked = false,
                Err(error) if is_timeout(&error) => {
                    ensure!(!asked, "luod does not answer any longer");
                    asked = true;
                    self.say(&Request::Status)?;
                }
                other => return other,
            }
        }
    }

    fn ask(&mut self, update: &Update) -> Result<()> {
        let since = Instant::now();
        self.driving = Driving::Asked;
        self.say(&Request::Prepare {
            deadline_ms: update.deadline.map(|seconds| seconds * 1000),
            strict: update.strict,
            force: update.force,
        })?;
        loop {
            // luod keeps the deadline, which may be a long one.
            match self.hear_of_services()? {
                Answer::Preparing { clients } => {
                    self.driving = Driving::Yes;
                    let text = format!("{clients} services are asked to preserve");
                    self.phase("ask", since, &text, json!({"clients": clients}));
                }
                answer @ Answer::Client { .. } => self.client(since, answer),
                Answer::Prepared { ready, left_out } => {
                    let text = format!("{ready} services are ready, {left_out} are left out");
                    let object = json!({"ready": ready, "left_out": left_out});
                    self.phase("wait", since, &text, object);
                    return Ok(());
                }
                other => bail!("luod said {}", plain(&format!("{other:?}"))),
            }
        }
    }

    /// What has become of one service.
    fn client(&self, since: Instant, answer: Answer) {
        let Answer::Client {
            id,
            uid,
            outcome,
            reason,
            ..
        } = answer
        else {
            return;
        };
        let reason = plain(&reason);
        let text = match outcome {
            Outcome::Ready => format!("{id} of user {uid} is ready"),
            Outcome::LeftOut => format!("{id} of user {uid} is left out: {reason}"),
        };
        let object = json!({"id": id, "uid": uid, "outcome": outcome, "reason": reason});
        self.phase("service", since, &text, object);
    }

    fn freeze(&mut self, hold: bool) -> Result<()> {
        let since = Instant::now();
        self.say(&Request::Freeze { hold })?;
        loop {
            match self.hear(self.patience.answer)? {
                Answer::Frozen { sessions } => {
                    let text = format!("luod's record names {sessions} sessions");
                    self.phase("freeze", since, &text, json!({"sessions": sessions}));
                    return Ok(());
                }
                answer @ Answer::Client { .. } => self.client(since, answer),
                other => bail!("luod said {}", plain(&format!("{other:?}"))),
            }
        }
    }

    /// What goes along, whoever made it.
    fn sessions(&self) {
        let since = Instant::now();
        let all = match self.machine.sessions() {
            Ok(all) => all,
            Err(error) => return self.report.remark(&error.to_string()),
        };
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
        let since = Instant::now();
        if systemd {
            self.machine.shut_down()?;
            // It is systemd's now.
            self.unload = false;
            self.driving = Driving::No;
            self.phase("kexec", since, "systemd shuts down and goes on", json!({}));
            return Ok(());
        }
        rustix::fs::sync();
        // That may have taken long.
        self.check_stop()?;
        self.check_luod()?;
        self.phase("kexec", since, "to the next kernel", json!({}));
        self.check_stop()?;
        // On a serial console the line would be cut off.
        let _ = rustix::termios::tcdrain(std::io::stdout());
        let error = plain(&self.machine.jump());
        bail!("the kernel refused the update: {error}; everything is as before")
    }

    /// Takes back what this command did, and nothing else.
    fn undo(&mut self) {
        let until = Instant::now() + self.patience.undo;
        // Whose end of the connection says the same when luod hangs.
        if let Some(mut luod) = self.luod.take() {
            while self.driving == Driving::Asked {
                self.driving = match luod.read(Some(until)) {
                    Ok(Answer::Preparing { .. }) => Driving::Yes,
                    Ok(Answer::Status { .. }) => Driving::Asked,
                    // A signal is no reason not to wait.
                    Err(Failure::Timeout) if Instant::now() < until => Driving::Asked,
                    _ => Driving::No,
                };
            }
            let abort = Request::Abort {
                id: None,
                reason: self.why.to_owned(),
            };
            if self.driving == Driving::Yes && luod.say(&abort).is_ok() {
                loop {
                    match luod.read(Some(until)) {
                        Ok(Answer::Aborted { .. }) => break,
                        // A signal is no reason not to wait.
                        Err(Failure::Timeout) if Instant::now() < until => {}
                        Err(_) => break,
                        Ok(_) => {}
                    }
                }
            }
        }
        if std::mem::take(&mut self.unload) {
            if let Err(error) = self.machine.unload() {
                self.report.remark(&format!(
                    "the kernel that was loaded could not be unloaded: {error}"
                ));
            }
        }
    }
}

fn is_timeout(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::Timeout))
}

#[cfg(test)]
mod tests;
