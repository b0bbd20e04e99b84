// SPDX-License-Identifier: GPL-2.0
//! What became of a run: the guest's events by generation, the console, and why it ended.

use crate::console::Console;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// An event the guest sent.
pub struct Event {
    /// How many live updates lay behind the kernel it was sent from.
    pub generation: usize,
    /// When it arrived, since the machine was started.
    pub at: Duration,
    fields: Value,
}

impl Event {
    /// Reads an event line; other lines give nothing.
    pub fn parse(line: &str, generation: usize, at: Duration) -> Option<Self> {
        let fields: Value = serde_json::from_str(line.trim().strip_prefix("@@ ")?).ok()?;
        fields.get("ev")?.as_str()?;
        Some(Self {
            generation,
            at,
            fields,
        })
    }

    pub fn kind(&self) -> &str {
        self.text("ev")
    }

    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or("")
    }

    pub fn number(&self, field: &str) -> u64 {
        self.fields.get(field).and_then(Value::as_u64).unwrap_or(0)
    }

    pub fn list(&self, field: &str) -> &[Value] {
        let list = self.fields.get(field).and_then(Value::as_array);
        list.map_or(&[], Vec::as_slice)
    }

    pub fn ok(&self, field: &str) -> bool {
        self.fields.get(field).and_then(Value::as_bool) == Some(true)
    }
}

pub struct Outcome {
    pub events: Vec<Event>,
    pub console: Console,
    pub log: PathBuf,
    /// Why the machine did not end as it should, if it did not.
    pub failure: Option<String>,
}

impl Outcome {
    pub fn kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.kind() == kind)
    }

    /// The event of a kind in one generation.
    pub fn event(&self, generation: usize, kind: &str) -> Option<&Event> {
        self.events
            .iter()
            .find(|event| event.generation == generation && event.kind() == kind)
    }

    /// The named event (a phase, a value) of a kind in one generation.
    pub fn named(&self, generation: usize, kind: &str, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| {
            event.generation == generation && event.kind() == kind && event.text("name") == name
        })
    }

    pub fn value(&self, generation: usize, name: &str) -> Option<u64> {
        self.named(generation, "value", name)
            .map(|event| event.number("value"))
    }

    /// TSC ticks from the jump out of `generation` to the start of the next one's /init.
    pub fn downtime_ticks(&self, generation: usize) -> Option<u64> {
        let left = self.event(generation, "kexec")?.number("tsc");
        let arrived = self.event(generation + 1, "boot")?.number("start");
        arrived.checked_sub(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(line: &str) -> Option<Event> {
        Event::parse(line, 1, Duration::ZERO)
    }

    #[test]
    fn an_event_line_is_read() {
        let read = event(r#"@@ {"ev":"check","name":"x","ok":true,"tsc":18446744073709551615}"#);
        let read = read.expect("a whole event");
        assert_eq!(read.kind(), "check");
        assert!(read.ok("ok"));
        assert_eq!(read.number("tsc"), u64::MAX);
        assert_eq!(read.text("missing"), "");
    }

    #[test]
    fn half_a_line_and_foreign_lines_are_not_events() {
        assert!(event(r#"@@ {"ev":"check","na"#).is_none());
        assert!(event("qemu-system-x86_64: warning").is_none());
        assert!(event(r#"@@ {"name":"no kind"}"#).is_none());
    }
}
