// SPDX-License-Identifier: GPL-2.0
//! Whether luod should be there, and calling off what it has under way.

use crate::ending::MayNot;
use crate::lock;
use crate::report::{plain, Report};
use anyhow::{anyhow, bail, Result};
use luo_client::{encode, send, Answer, Client, Code, Failure, Request};
use serde_json::json;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long it may take to call an update off.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where units are looked for, the administrator's first.
const UNITS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
const PROGRAMS: [&str; 2] = ["usr/local/sbin/luod", "usr/sbin/luod"];

/// What says that luod is installed; nothing, if its unit is masked.
pub fn installed(root: &Path) -> Option<PathBuf> {
    for place in UNITS {
        let unit = root.join(place).join("luod.service");
        match fs::read_link(&unit) {
            Ok(to) if to == Path::new("/dev/null") => return None,
            Ok(_) => return Some(unit),
            Err(_) if unit.exists() => return Some(unit),
            Err(_) => {}
        }
    }
    let programs = PROGRAMS.iter().map(|program| root.join(program));
    programs.into_iter().find(|program| program.exists())
}

/// Whether luod is not there at all, as opposed to there and not well.
pub fn absent(failure: &Failure) -> bool {
    matches!(failure, Failure::Connection(error)
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused))
}

/// `luoctl abort`.
pub fn abort(report: &Report, socket: &Path) -> Result<()> {
    let mut luod = match Client::connect(socket) {
        Ok(luod) => luod,
        Err(failure) if absent(&failure) => return without(report),
        Err(failure) => return Err(failure.into()),
    };
    let before = of_phase(&mut luod)?;
    let reason = format!("luoctl abort (process {})", std::process::id());
    // A luod that does not know how one asks for what another drives does it for any root.
    let call_off = json!({"type": "CALL_OFF", "reason": reason});
    send(&luod, &encode(&call_off), None)?;
    let mut answer = hear(&mut luod)?;
    if matches!(&answer, Answer::Error { error, .. } if error.code == Code::BadMessage) {
        luod.say(&Request::Abort { id: None, reason })?;
        answer = hear(&mut luod)?;
    }
    match answer {
        Answer::Aborted { .. } if before == "operating" => {
            report.tell("no update is under way", json!({"aborted": false}));
        }
        Answer::Aborted { .. } => {
            let text = format!("the update that was {before} is called off");
            report.tell(&text, json!({"aborted": true, "phase": before}));
        }
        Answer::Error { error, .. } if error.code == Code::NotPermitted => {
            return Err(MayNot("only root may call an update off; run luoctl as root").into());
        }
        Answer::Error { error, .. } => bail!("luod: {}", plain(&error.message)),
        other => bail!("luod said {}", plain(&format!("{other:?}"))),
    }
    Ok(())
}

fn without(report: &Report) -> Result<()> {
    if let Some(who) = lock::holder(Path::new(lock::PATH)) {
        bail!("luod does not run, but {who} is at it; end that process, and it undoes what it did");
    }
    report.tell(
        "luod does not run, and no update is under way",
        json!({"aborted": false}),
    );
    Ok(())
}

fn hear(luod: &mut Client) -> Result<Answer> {
    Ok(luod.read(Some(Instant::now() + PATIENCE))?)
}

fn of_phase(luod: &mut Client) -> Result<String> {
    luod.say(&Request::Status)?;
    match hear(luod)? {
        Answer::Status { status } => Ok(status.phase.to_string()),
        Answer::Error { error, .. } if error.code == Code::NotPermitted => {
            Err(MayNot("only root may call an update off; run luoctl as root").into())
        }
        Answer::Error { error, .. } => Err(anyhow!("luod: {}", plain(&error.message))),
        other => Err(anyhow!("luod said {}", plain(&format!("{other:?}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn luod_is_found_where_it_may_be_and_a_masked_one_is_none() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        assert_eq!(installed(root), None);
        let program = root.join("usr/sbin/luod");
        fs::create_dir_all(root.join("usr/sbin")).expect("made");
        fs::write(&program, "").expect("written");
        assert_eq!(installed(root), Some(program));
        let unit = root.join("usr/lib/systemd/system/luod.service");
        fs::create_dir_all(root.join("usr/lib/systemd/system")).expect("made");
        fs::write(&unit, "").expect("written");
        assert_eq!(installed(root), Some(unit));
        fs::create_dir_all(root.join("etc/systemd/system")).expect("made");
        symlink("/dev/null", root.join("etc/systemd/system/luod.service")).expect("made");
        assert_eq!(installed(root), None);
    }
}
