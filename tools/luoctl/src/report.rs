// SPDX-License-Identifier: GPL-2.0
//! How results are told: lines for people, or objects for programs. Never raw what others wrote,
//! and no panic when nobody reads.

use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind, Write};

/// Most characters that are printed of what somebody else says.
const MOST: usize = 200;

/// Where results go.
pub struct Report {
    json: bool,
    out: RefCell<Box<dyn Write>>,
    broken: Cell<Option<ErrorKind>>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self::to(json, Box::new(io::stdout()))
    }

    /// As [`Self::new`], to another place.
    pub fn to(json: bool, out: Box<dyn Write>) -> Self {
        Self {
            json,
            out: RefCell::new(out),
            broken: Cell::new(None),
        }
    }

    /// One thing, in words and as an object.
    pub fn tell(&self, text: &str, object: Value) {
        if self.json {
            self.write(&ascii(&object.to_string()));
        } else {
            self.write(&lines(text));
        }
    }

    /// Lines for people only.
    pub fn say(&self, text: &str) {
        if !self.json {
            self.write(&lines(text));
        }
    }

    /// What people should know and programs need not.
    pub fn remark(&self, text: &str) {
        complain(text);
    }

    pub fn json(&self) -> bool {
        self.json
    }

    /// Why nobody reads what is said any longer.
    pub fn broken(&self) -> Option<ErrorKind> {
        self.broken.get()
    }

    fn write(&self, text: &str) {
        if self.broken.get().is_some() {
            return;
        }
        let mut out = self.out.borrow_mut();
        if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
            self.broken.set(Some(error.kind()));
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("json", &self.json).finish()
    }
}

/// A line for standard error; lost if nobody reads there.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "luoctl: {}", lines(text));
}

/// What others say, as one line that cannot pass for anything else, and not too long.
pub fn plain(text: &str) -> String {
    let mut safe = escape(text.chars().take(MOST), false);
    if text.chars().nth(MOST).is_some() {
        safe.push_str("...");
    }
    safe
}

/// Lines of luoctl's own, with whatever came into them.
fn lines(text: &str) -> String {
    escape(text.chars(), true)
}

/// What is not printable, or turns the direction of a line, is written as in Rust.
fn escape(text: impl Iterator<Item = char>, lines: bool) -> String {
    let mut safe = String::new();
    for one in text {
        match one {
            '\n' if lines => safe.push(one),
            '\\' if lines => safe.push(one),
            '\'' | '"' => safe.push(one),
            _ => safe.extend(one.escape_debug()),
        }
    }
    safe
}

/// JSON without what a terminal may take for more than text: all that is not ASCII can be escaped
/// in it.
fn ascii(json: &str) -> String {
    let mut safe = String::new();
    let mut units = [0; 2];
    for one in json.chars() {
        if one.is_ascii() && one != '\x7f' {
            safe.push(one);
            continue;
        }
        for unit in one.encode_utf16(&mut units) {
            safe.push_str(&format!("\\u{unit:04x}"));
        }
    }
    safe
}

/// Bytes, in a unit that people read.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=10_239_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_on_its_line() {
        let odd = "x\r\n\x1b[2J\u{9b}31m\u{202e}\\ \"it's\" é";
        let said = plain(odd);
        assert_eq!(said, "x\\r\\n\\u{1b}[2J\\u{9b}31m\\u{202e}\\\\ \"it's\" é");
        assert_eq!(lines("a\nb\x07"), "a\nb\\u{7}");
        let long = plain(&"y".repeat(5000));
        assert_eq!(long.len(), MOST + 3);
    }

    #[test]
    fn json_is_ascii_and_means_the_same() {
        let object = serde_json::json!({"a": "\u{9b}\u{202e}é\u{1f600}\x1b\x7f"});
        let safe = ascii(&object.to_string());
        assert!(
            safe.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
            "{safe}"
        );
        let back: Value = serde_json::from_str(&safe).expect("JSON");
        assert_eq!(back, object);
    }

    #[test]
    fn a_broken_pipe_is_no_panic() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let report = Report::to(false, Box::new(Closed));
        report.say("x");
        assert_eq!(report.broken(), Some(ErrorKind::BrokenPipe));
    }
}
