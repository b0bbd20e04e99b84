// SPDX-License-Identifier: GPL-2.0
//! `/init` of the test machines: reads its scenario from the kernel command line and plays its
//! generation's part. As any other process it is a helper of that, or the selftests of the machine
//! it runs on.

mod cmdline;
mod event;
mod fdt;
mod formats;
mod initramfs;
mod kexec;
mod kselftest;
mod machine;
mod memory;
mod pattern;
mod physical;
mod scenario;
mod sys;
mod tap;

use cmdline::Cmdline;
use serde_json::json;

fn main() {
    let started = sys::tsc();
    if std::process::id() != 1 {
        match std::env::args().nth(1) {
            Some(role) if role == "kselftest" => std::process::exit(kselftest::run()),
            Some(role) => scenario::helper(&role),
            None => {}
        }
        eprintln!(
            "guest: this program is /init of a test machine, which `make demo` and `make test` start; \
             `guest kselftest` tests the machine it runs on"
        );
        std::process::exit(2);
    }
    let outcome = machine::set_up().and_then(|()| {
        std::panic::set_hook(Box::new(|panic| {
            event::send("done", json!({"ok": false, "error": panic.to_string()}));
            machine::power_off();
        }));
        let cmdline = Cmdline::read()?;
        let release = machine::release();
        event::send(
            "boot",
            json!({"gen": cmdline.generation(), "release": release, "start": started}),
        );
        scenario::play(&cmdline)
    });
    let verdict = match outcome {
        Ok(()) => json!({"ok": true}),
        Err(error) => json!({"ok": false, "error": format!("{error:#}")}),
    };
    event::send("done", verdict);
    machine::power_off();
}
