// SPDX-License-Identifier: GPL-2.0
//! How things are: the kernel's view, and luod's.

use crate::ending::Ending;
use crate::report::{plain, size, Report};
use crate::{formats, sysfs};
use anyhow::Result;
use luo_client::{Answer, Client, Request, Status};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// What luod says; an error in words if it says nothing.
pub fn of_luod(socket: &Path) -> Result<Status, String> {
    let mut luod = Client::connect(socket).map_err(|error| error.to_string())?;
    let until = Instant::now() + Duration::from_secs(5);
    let answer = luod
        .say(&Request::Status)
        .and_then(|()| luod.read(Some(until)))
        .map_err(|error| error.to_string())?;
    match answer {
        Answer::Status { status } => Ok(status),
        Answer::Error { error, .. } => Err(plain(&error.message)),
        other => Err(plain(&format!("luod answered {other:?}"))),
    }
}

pub fn run(report: &Report, socket: &Path) -> Result<Ending> {
    let value = sysfs::value;
    let device = Path::new(liveupdate_uapi::Device::PATH).exists();
    let shows = value("enabled").is_some();
    let enabled = value("enabled").map_or(device, |text| text == "1");
    let sessions = sysfs::sessions();
    let loaded = sysfs::kexec_loaded();
    let image = value("loaded_image").map(|text| formats::loaded(&text));
    let scratch = sysfs::scratch();
    let luod = of_luod(socket);
    let ending = match sessions {
        Ok(_) => Ending::Done,
        Err(_) => Ending::MayNotLook,
    };
    if report.json() {
        report.tell(
            "",
            json!({
                "enabled": enabled,
                "state": value("state"),
                "update_number": value("update_number").and_then(|text| text.parse::<u64>().ok()),
                "previous_release": value("previous_release"),
                "last_error": value("last_error"),
                "kexec_loaded": loaded,
                "loaded_image": image.map(|(_, object)| object),
                "scratch": scratch,
                "sessions": sessions.as_ref().ok(),
                "sessions_error": sessions.as_ref().err().map(ToString::to_string),
                "luod": luod.as_ref().ok(),
                "luod_error": luod.as_ref().err(),
            }),
        );
        return Ok(ending);
    }
    let line = |name: &str, text: String| report.say(&format!("{name:14} {text}"));
    line(
        "live update",
        match (enabled, value("state")) {
            (true, Some(state)) => format!("on, {state}"),
            (true, None) => "on".into(),
            (false, _) => sysfs::why_off(),
        },
    );
    if let Some(number) = value("update_number") {
        let before = value("previous_release").filter(|text| !text.is_empty());
        let before = before.map_or(String::new(), |release| {
            format!(", from Linux {}", plain(&release))
        });
        let since = if number == "0" {
            "none since the cold boot".into()
        } else {
            number
        };
        line("updates", format!("{since}{before}"));
    }
    if let Some(error) = value("last_error").filter(|text| !text.is_empty()) {
        line("last error", error.replace('\n', "; "));
    }
    line(
        "next kernel",
        match image {
            Some((said, _)) => said,
            None if loaded => "loaded".into(),
            None => "none is loaded".into(),
        },
    );
    if let Some(areas) = scratch {
        let areas: Vec<String> = areas.into_iter().map(size).collect();
        line("scratch", areas.join(", "));
    }
    line(
        "sessions",
        match &sessions {
            Err(error) => format!("not known: {error}"),
            Ok(all) if shows => {
                let count = |side: &str| {
                    let of_side = |one: &&sysfs::Listed| one.side.as_deref() == Some(side);
                    all.iter().filter(of_side).count()
                };
                let (came, go) = (count("incoming"), count("outgoing"));
                format!("{came} have arrived, {go} go to the next kernel")
            }
            Ok(all) => format!("{} are open", all.len()),
        },
    );
    match luod {
        Err(error) => line("luod", error),
        Ok(status) => {
            line(
                "luod",
                format!("{}, {} connections", status.phase, status.connections),
            );
            for service in status.clients.iter().chain(&status.arrived) {
                line(
                    "",
                    format!("{} of user {}: {}", service.id, service.uid, service.part),
                );
            }
        }
    }
    Ok(ending)
}
