// SPDX-License-Identifier: GPL-2.0
//! The machine around us: file systems, switches in /proc and /sys, memory figures, and the way
//! out.

use crate::event;
use anyhow::{Context, Result};
use rustix::mount::{mount, MountFlags};
use rustix::system::{reboot, RebootCommand};
use std::fs;

/// Mounts what the scenarios look at and opens the event port.
pub fn set_up() -> Result<()> {
    const MOUNTS: [(&str, &str); 5] = [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("debugfs", "/sys/kernel/debug"),
        ("tmpfs", "/tmp"),
    ];
    for (kind, place) in MOUNTS {
        // Below /sys the folder is the kernel's own, and it may exist already.
        let _ = fs::create_dir_all(place);
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {kind} on {place}"))?;
    }
    event::open().context("cannot open the event port /dev/ttyS1")
}

pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into()
}

/// Ends the machine, whatever it takes.
pub fn power_off() -> ! {
    let _ = reboot(RebootCommand::PowerOff);
    // No ACPI power button here: a restart ends QEMU as well, as it runs with -no-reboot.
    let _ = reboot(RebootCommand::Restart);
    loop {
        std::thread::park();
    }
}

/// Writes a switch in /proc or /sys.
pub fn switch(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("cannot write \"{value}\" to {path}"))
}

/// Folds the per-CPU differences of the kernel's memory counters into them.
fn settle_counters() {
    let _ = fs::read_to_string("/proc/sys/vm/stat_refresh");
}

/// One figure of /proc/meminfo or a node's meminfo, in bytes.
pub fn memory_figure(path: &str, name: &str) -> Result<u64> {
    settle_counters();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let mut lines = text.lines().map(|line| {
        // Per node files start each line with "Node 0 ".
        let words = line.split_whitespace();
        let skip = if line.starts_with("Node ") { 2 } else { 0 };
        words.skip(skip)
    });
    lines
        .find_map(|mut words| {
            (words.next()? == format!("{name}:")).then(|| words.next()?.parse::<u64>().ok())?
        })
        .map(|kib| kib * 1024)
        .with_context(|| format!("{path} has no line {name}"))
}

/// Bytes that are free, those that wait on per-CPU lists included.
pub fn free_bytes() -> Result<u64> {
    settle_counters();
    let zones = fs::read_to_string("/proc/zoneinfo").context("cannot read /proc/zoneinfo")?;
    let pages: u64 = zones
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            matches!(words.next()?, "nr_free_pages" | "count:")
                .then(|| words.next()?.parse::<u64>().ok())?
        })
        .sum();
    Ok(pages * 4096)
}

/// Reports how much memory there is, and how much of it is free, as `<label> MemTotal` and
/// `<label> free`.
pub fn report_memory(label: &str) -> Result<()> {
    event::value(
        &format!("{label} MemTotal"),
        memory_figure("/proc/meminfo", "MemTotal")?,
    );
    event::value(&format!("{label} free"), free_bytes()?);
    Ok(())
}
