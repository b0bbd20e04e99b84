// SPDX-License-Identifier: GPL-2.0
//! What the guest tells the host: one JSON object a line, on the second serial port so that no
//! kernel message cuts into it. Outside of a test machine cases are told to people, as TAP.

use crate::tap::Tap;
use serde_json::{json, Value};
use std::fs::File;
use std::io::{Stdout, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Every event line starts with this.
const MARK: &str = "@@ ";

/// Where events go.
enum Sink {
    Port(Mutex<File>),
    Tap(Mutex<Tap<Stdout>>),
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Opens the port the events go to.
pub fn open() -> anyhow::Result<()> {
    let port = File::options().write(true).open("/dev/ttyS1")?;
    let mut modes = rustix::termios::tcgetattr(&port)?;
    modes.make_raw();
    rustix::termios::tcsetattr(&port, rustix::termios::OptionalActions::Now, &modes)?;
    let _ = SINK.set(Sink::Port(Mutex::new(port)));
    Ok(())
}

/// From now on it is TAP on standard output.
pub fn open_tap() {
    let _ = SINK.set(Sink::Tap(Mutex::new(Tap::new(std::io::stdout()))));
}

/// A poisoned lock only means that another thread panicked while writing: still say it.
fn locked<T>(sink: &Mutex<T>) -> MutexGuard<'_, T> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The TAP, if it is that.
pub fn tap() -> Option<MutexGuard<'static, Tap<Stdout>>> {
    match SINK.get() {
        Some(Sink::Tap(tap)) => Some(locked(tap)),
        _ => None,
    }
}

/// Sends one event; `fields` is a JSON object. Waits until the port has taken it.
pub fn send(kind: &str, fields: Value) {
    let mut event = json!({"ev": kind, "tsc": crate::sys::tsc()});
    if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
        event.extend(fields);
    }
    match SINK.get() {
        Some(Sink::Port(port)) => {
            let mut port = locked(port);
            let _ = port.write_all(format!("{MARK}{event}\n").as_bytes());
            let _ = rustix::termios::tcdrain(&*port);
        }
        Some(Sink::Tap(tap)) => locked(tap).remark(&event.to_string()),
        None => eprintln!("{MARK}{event}"),
    }
}

/// One test's verdict.
pub fn check(name: &str, ok: bool, detail: impl Into<String>) {
    let detail = detail.into();
    match tap() {
        Some(mut tap) => tap.case(name, ok, &detail),
        None => send("check", json!({"name": name, "ok": ok, "detail": detail})),
    }
}

/// One test that cannot be tried. A test machine has all it takes, so there it has failed.
pub fn skip(name: &str, why: &str) {
    match tap() {
        Some(mut tap) => tap.skip(name, why),
        None => check(name, false, why),
    }
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
