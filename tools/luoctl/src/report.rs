// SPDX-License-Identifier: GPL-2.0
//! How results are told: lines for people, or objects for programs.

use serde_json::Value;

/// Where results go.
#[derive(Debug)]
pub struct Report {
    json: bool,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// One thing, in words and as an object.
    pub fn tell(&self, text: &str, object: Value) {
        if self.json {
            println!("{object}");
        } else {
            println!("{text}");
        }
    }

    /// What people should know and programs need not.
    pub fn remark(&self, text: &str) {
        eprintln!("luoctl: {text}");
    }

    pub fn json(&self) -> bool {
        self.json
    }
}

/// Bytes, in a unit that people read.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=10_239_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
