// SPDX-License-Identifier: GPL-2.0

//! Makes the catalogue of formats when a kernel is linked: a host program of Kbuild.
//!
//! `make_catalogue MODINFO AUTO_CONF KERNEL_RELEASE CATALOGUE REPORT` reads the first three files
//! (the `.modinfo` section of vmlinux.o, `include/config/auto.conf`,
//! `include/config/kernel.release`) and writes the last two: the bytes, and a line a format.

use std::fs;
use std::process::ExitCode;

#[allow(dead_code)]
#[path = "../catalogue.rs"]
mod catalogue;
#[allow(dead_code)]
#[path = "../cmdline.rs"]
mod cmdline;
mod declarations;
#[allow(dead_code)]
mod encode;

use catalogue::{KHO_ON, LUO_ON};
use cmdline::Switches;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [modinfo, config, release, catalogue, report] = args.as_slice() else {
        eprintln!("usage: make_catalogue MODINFO AUTO_CONF KERNEL_RELEASE CATALOGUE REPORT");
        return ExitCode::from(2);
    };
    match make(modinfo, config, release, catalogue, report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in faults {
                eprintln!("error: formats of live updates: {fault}");
            }
            ExitCode::FAILURE
        }
    }
}

fn make(
    modinfo: &str,
    config: &str,
    release: &str,
    catalogue: &str,
    report: &str,
) -> Result<(), Vec<String>> {
    let one = |fault: String| vec![fault];
    let read = |path: &str| fs::read(path).map_err(|e| one(format!("cannot read {path}: {e}")));
    let formats = declarations::formats(&read(modinfo)?)?;
    if formats.is_empty() {
        return Err(one(format!(
            "{modinfo} declares none; is it the .modinfo section of vmlinux.o?"
        )));
    }
    let text = |path| Ok::<_, Vec<String>>(String::from_utf8_lossy(&read(path)?).into_owned());
    let bytes =
        encode::encode(text(release)?.trim(), flags(&text(config)?), &formats).map_err(one)?;
    let lines: Vec<String> = formats.iter().map(|format| format.line() + "\n").collect();
    let write = |path: &str, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|e| one(format!("cannot write {path}: {e}")))
    };
    write(report, lines.concat().as_bytes())?;
    write(catalogue, &bytes)
}

/// What a kernel of this configuration does without a command line of its own: the options'
/// defaults, and the command line that is built in, where that is always read.
fn flags(config: &str) -> u32 {
    let value = |option: &str| {
        let mut lines = config.lines();
        lines.find_map(|line| line.strip_prefix(option)?.strip_prefix('='))
    };
    let on = |option| value(option) == Some("y");
    let mut flags = 0;
    if on("CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT") {
        flags |= KHO_ON;
    }
    if on("CONFIG_CMDLINE_BOOL") || on("CONFIG_CMDLINE_FORCE") {
        let line = unescape(value("CONFIG_CMDLINE").unwrap_or_default());
        let said = Switches::parse(line.as_bytes());
        for (said, flag) in [(said.kho, KHO_ON), (said.liveupdate, LUO_ON)] {
            match said {
                Some(true) => flags |= flag,
                Some(false) => flags &= !flag,
                None => {}
            }
        }
    }
    flags
}

/// The text in the quotes of a Kconfig file.
fn unescape(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let mut text = String::new();
    let mut rest = inner.unwrap_or(value).chars();
    while let Some(c) = rest.next() {
        text.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    text
}
