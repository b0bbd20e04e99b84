// SPDX-License-Identifier: GPL-2.0
//! The sessions, as a table.

use crate::ending::Ending;
use crate::report::{size, Report};
use crate::sysfs;
use anyhow::Result;
use serde_json::json;

pub fn run(report: &Report) -> Result<Ending> {
    let sessions = sysfs::sessions()?;
    if report.json() {
        report.tell("", json!({"sessions": sessions}));
        return Ok(Ending::Done);
    }
    if sessions.is_empty() {
        report.say("no sessions");
        return Ok(Ending::Done);
    }
    report.say(&format!(
        "{:9} {:9} {:>6} {:>12} {:20} NAME",
        "SIDE", "STATE", "FILES", "SIZE", "OPEN IN"
    ));
    for session in sessions {
        let number = |number: Option<u64>| number.map_or("?".into(), |number| number.to_string());
        let pids: Vec<String> = session.open_in.iter().map(u32::to_string).collect();
        report.say(&format!(
            "{:9} {:9} {:>6} {:>12} {:20} {}",
            session.side.as_deref().unwrap_or("?"),
            session.state,
            number(session.files),
            session.bytes.map_or("?".into(), size),
            pids.join(","),
            session.name
        ));
    }
    Ok(Ending::Done)
}
