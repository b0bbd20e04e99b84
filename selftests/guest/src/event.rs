// SPDX-License-Identifier: GPL-2.0
//! What the guest tells the host: one JSON object a line, on the second serial port so that no kernel message cuts into it.

use serde_json::{json, Value};
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock};

/// Every event line starts with this.
const MARK: &str = "@@ ";

static PORT: OnceLock<Mutex<File>> = OnceLock::new();

/// Opens the port the events go to.
pub fn open() -> anyhow::Result<()> {
    let port = File::options().write(true).open("/dev/ttyS1")?;
    let mut modes = rustix::termios::tcgetattr(&port)?;
    modes.make_raw();
    rustix::termios::tcsetattr(&port, rustix::termios::OptionalActions::Now, &modes)?;
    let _ = PORT.set(Mutex::new(port));
    Ok(())
}

/// Sends one event; `fields` is a JSON object. Waits until the port has taken it.
pub fn send(kind: &str, fields: Value) {
    let mut event = json!({"ev": kind, "tsc": crate::sys::tsc()});
    if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
        event.extend(fields);
    }
    let line = format!("{MARK}{event}\n");
    let Some(port) = PORT.get() else {
        eprint!("{line}");
        return;
    };
    // A poisoned lock only means that another thread panicked while writing: still say it.
    let mut port = port.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let _ = port.write_all(line.as_bytes());
    let _ = rustix::termios::tcdrain(&*port);
}

/// One test's verdict.
pub fn check(name: &str, ok: bool, detail: impl Into<String>) {
    send(
        "check",
        json!({"name": name, "ok": ok, "detail": detail.into()}),
    );
}

/// A number worth comparing, as it stands in this generation.
pub fn value(name: &str, value: u64) {
    send("value", json!({"name": name, "value": value}));
}

/// Runs `work` as a named phase and reports how long it took: TSC ticks and nanoseconds.
pub fn phase<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let clock = std::time::Instant::now();
    let start = crate::sys::tsc();
    let result = work()?;
    let ticks = crate::sys::tsc() - start;
    let ns = u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
    send("phase", json!({"name": name, "ticks": ticks, "ns": ns}));
    Ok(result)
}
