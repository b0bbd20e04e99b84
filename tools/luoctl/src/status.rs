// SPDX-License-Identifier: GPL-2.0
//! How things are: the kernel's view, and luod's.

use crate::report::{size, Report};
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
        Answer::Error { error, .. } => Err(error.message),
        other => Err(format!("luod answered {other:?}")),
    }
}

pub fn run(report: &Report, socket: &Path) -> Result<()> {
    let value = sysfs::value;
    let device = Path::new(liveupdate_uapi::Device::PATH).exists();
    let shows = value("enabled").is_some();
    let enabled = value("enabled").map_or(device, |text| text == "1");
    let sessions = sysfs::sessions();
    let loaded = sysfs::kexec_loaded();
    let image = value("loaded_image").map(|text| formats::loaded(&text));
    let scratch = sysfs::scratch();
    let luod = of_luod(socket);
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
                "sessions": sessions,
                "luod": luod.as_ref().ok(),
                "luod_error": luod.as_ref().err(),
            }),
        );
        return Ok(());
    }
    let line = |name: &str, text: String| println!("{name:14} {text}");
    line(
        "live update",
        match (enabled, value("state")) {
            (true, Some(state)) => format!("on, {state}"),
            (true, None) => "on".into(),
            (false, _) => "off; kho=on liveupdate=on on the command line turns it on".into(),
        },
    );
    if let Some(number) = value("update_number") {
        let before = value("previous_release").filter(|text| !text.is_empty());
        let before = before.map_or(String::new(), |release| format!(", from Linux {release}"));
        let since = if number == "0" {
            "none since the cold boot".into()
        } else {
            number
        };
        line("updates", format!("{since}{before}"));
    }
    if let Some(error) = value("last_error").filter(|text| !text.is_empty()) {
        line("last error", error);
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
    let count = |side: &str| {
        let of_side = |session: &&sysfs::Listed| session.side.as_deref() == Some(side);
        sessions.iter().filter(of_side).count()
    };
    line(
        "sessions",
        match shows {
            true => format!(
                "{} have arrived, {} go to the next kernel",
                count("incoming"),
                count("outgoing")
            ),
            false => format!("{} are open", sessions.len()),
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
    Ok(())
}
