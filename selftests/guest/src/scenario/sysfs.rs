// SPDX-License-Identifier: GPL-2.0
//! What /sys/kernel/liveupdate shows, checked against what a scenario has just done. Mainline has
//! no such folder.

use crate::event;
use std::fs;

const FOLDER: &str = "/sys/kernel/liveupdate";

/// How the names of sessions begin that a scenario has beside those it expects here.
pub const BESIDE: &str = "beside/";

/// What an operator must be able to read now.
pub struct Shown<'a> {
    pub generation: u64,
    pub state: &'a str,
    /// Lines of `sessions` without the sizes: `SIDE STATE FILES RETRIEVED NAME`.
    pub sessions: &'a [String],
    /// The sizes in all.
    pub bytes: u64,
}

/// One check a file.
pub fn check(when: &str, shown: &Shown<'_>) {
    if !super::luo_is_ours() {
        return;
    }
    let read = |file: &str| {
        let text = fs::read_to_string(format!("{FOLDER}/{file}")).unwrap_or_default();
        text.trim_end_matches('\n').to_owned()
    };
    let says = |file: &str, wanted: &str| {
        let seen = read(file);
        let name = format!("{when}, sysfs {file} is \"{wanted}\"");
        event::check(&name, seen == wanted, seen);
    };
    says("enabled", "1");
    says("state", shown.state);
    says("update_number", &shown.generation.to_string());
    says("last_error", "");
    let previous = read("previous_release");
    event::check(
        &format!("{when}, sysfs previous_release names the kernel before, if there was one"),
        previous.is_empty() == (shown.generation == 0),
        previous,
    );
    let beside = |line: &&str| {
        let name = line.splitn(6, ' ').nth(5);
        name.is_some_and(|name| name.starts_with(BESIDE))
    };
    let text = read("sessions");
    let expected: Vec<&str> = text.lines().filter(|line| !beside(line)).collect();
    let mut bytes: Vec<u64> = Vec::new();
    let lines: Vec<String> = expected
        .iter()
        .map(|line| {
            let mut fields: Vec<&str> = line.splitn(6, ' ').collect();
            if fields.len() == 6 {
                bytes.push(fields.remove(4).parse().unwrap_or(0));
            }
            fields.join(" ")
        })
        .collect();
    event::check(
        &format!("{when}, sysfs sessions has a line for each"),
        lines == shown.sessions && bytes.iter().sum::<u64>() == shown.bytes,
        expected.join(", "),
    );
}
