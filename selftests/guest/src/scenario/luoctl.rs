// SPDX-License-Identifier: GPL-2.0
//! luoctl without luod: a large file goes to the next kernel, and every example of the manual is
//! run.

use super::luod::{furnish, sessions};
use crate::cmdline::Cmdline;
use crate::sys::Mapping;
use crate::{event, initramfs, pattern};
use anyhow::{bail, ensure, Context, Result};
use pattern::Depth;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

const FILE: &str = "/tmp/large";
const BACK: &str = "/tmp/back";
const MODE: u32 = 0o640;
const SEED: u64 = 11;

pub fn run(arguments: &[&str]) -> Result<Output> {
    let output = Command::new("/bin/luoctl").args(arguments).output()?;
    ensure!(
        output.status.success(),
        "luoctl {} said: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

/// A file with a pattern on every page.
pub fn make(path: &str, bytes: u64) -> Result<()> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    file.set_len(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    let mut mapping = Mapping::new(&file, usize::try_from(bytes)?)?;
    mapping.populate()?;
    pattern::fill(mapping.words_mut(), SEED, Depth::Full);
    Ok(())
}

/// What is wrong with one that was made, if anything is.
pub fn verify(path: &str, bytes: u64) -> Result<Option<String>> {
    let file = File::options().read(true).write(true).open(path)?;
    let data = file.metadata()?;
    if data.len() != bytes {
        return Ok(Some(format!("it has {} bytes", data.len())));
    }
    if data.permissions().mode() & 0o7777 != MODE {
        return Ok(Some(format!("its mode is {:o}", data.permissions().mode())));
    }
    let mapping = Mapping::new(&file, usize::try_from(bytes)?)?;
    let damage = pattern::damage(mapping.words(), SEED, Depth::Full);
    Ok(damage.map(|(first, count)| format!("{count} pages are damaged, the first is {first}")))
}

pub fn play(cmdline: &Cmdline) -> Result<()> {
    furnish()?;
    let bytes = cmdline.number("size", 0);
    match cmdline.generation() {
        0 => before(bytes)?,
        _ => after(bytes)?,
    }
    examples(cmdline)
}

/// What an update would do is said before anything is loaded, and an image that will not do is not.
fn judged() -> Result<()> {
    fs::write("/tmp/not-a-kernel", [7; 4096])?;
    for (why, arguments, code, says) in [
        (
            "a command line without live update",
            &["check", "/boot/vmlinuz", "--cmdline", "kho=on"][..],
            1,
            "liveupdate=on",
        ),
        (
            "no kernel",
            &["check", "/tmp/not-a-kernel"],
            1,
            "not-a-kernel",
        ),
        (
            "too many kernels",
            &["check", "a", "b", "c"],
            2,
            "unexpected",
        ),
        ("no file", &["formats", "/tmp/none"], 1, "/tmp/none"),
        (
            "to load with a command line without live update",
            &[
                "load",
                "/boot/vmlinuz",
                "--cmdline",
                "liveupdate=on kho=off",
            ],
            1,
            "kho=on",
        ),
        ("the running kernel's formats", &["formats"], 0, "memfd"),
        ("no image is loaded", &["status"], 0, "none is loaded"),
    ] {
        let output = Command::new("/bin/luoctl").args(arguments).output()?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let passed = output.status.code() == Some(code) && text.contains(says);
        event::check(
            &format!("luoctl judges: {why}"),
            passed,
            if passed { String::new() } else { text },
        );
    }
    Ok(())
}

fn before(bytes: u64) -> Result<()> {
    make(FILE, bytes)?;
    event::phase("preserve", || run(&["preserve", "large", FILE]))?;
    fs::remove_file(FILE)?;
    // What `finish` is for.
    fs::write("/tmp/old", "old")?;
    run(&["preserve", "old-backup", "/tmp/old"])?;
    let names = sessions("outgoing")?;
    let kept = names == ["large", "old-backup"];
    event::check(
        "sessions are kept in the background",
        kept,
        names.join(", "),
    );
    let twice = Command::new("/bin/luoctl")
        .args(["preserve", "large", "/tmp/old"])
        .output()?;
    let text = String::from_utf8_lossy(&twice.stderr).into_owned();
    let refused = twice.status.code() == Some(1) && text.contains("luoctl discard large");
    event::check("a name that is used is refused with advice", refused, text);
    Ok(())
}

fn after(bytes: u64) -> Result<()> {
    // Where it cannot be written, nothing is lost.
    fs::write("/tmp/file", "")?;
    let failed = Command::new("/bin/luoctl")
        .args(["retrieve", "large", "--to", "/tmp/file"])
        .output()?;
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    let kept = failed.status.code() == Some(1) && text.contains("the session is kept");
    event::check("a retrieve that fails keeps the session", kept, text);
    event::phase("retrieve", || run(&["retrieve", "large", "--to", BACK]))?;
    let trouble = verify(&format!("{BACK}/large"), bytes)?;
    event::check(
        "the large file is what it was, with its mode",
        trouble.is_none(),
        trouble.unwrap_or_else(|| format!("{} MiB", bytes >> 20)),
    );
    fs::remove_file(format!("{BACK}/large"))?;
    Ok(())
}

/// Runs the examples of the manual: those for before an update, or for after it. The one that
/// updates comes last.
fn examples(cmdline: &Cmdline) -> Result<()> {
    let updated = cmdline.generation() > 0;
    fs::write("/etc/fstab", "none /tmp tmpfs\n")?;
    fs::write("/etc/hostname", "guest\n")?;
    if !updated {
        let next = *cmdline.chain().first().context("there is no next kernel")?;
        std::os::unix::fs::symlink(format!("/boot/{next}"), "/boot/vmlinuz")?;
    }
    std::os::unix::fs::symlink("/bin/busybox", "/bin/sh")?;
    if !updated {
        judged()?;
    }
    let list = fs::read_to_string("/tests/examples").context("no examples were packed")?;
    let mut jump = None;
    let mut count = 0;
    for line in list.lines() {
        let (when, example) = line.split_once(' ').context("an odd example")?;
        if (when == "after") != updated {
            continue;
        }
        if example.starts_with("luoctl update") && !example.contains("--dry-run") {
            jump = Some(example);
            continue;
        }
        if example.contains("/boot/initrd.img") && !fs::exists("/boot/initrd.img")? {
            drop(initramfs::pack()?);
            std::os::unix::fs::symlink(initramfs::ARCHIVE, "/boot/initrd.img")?;
        }
        let output = shell(&without_luod(example)).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        event::check(
            &format!("example: {example}"),
            code == Some(0),
            if code == Some(0) { String::new() } else { said },
        );
        count += 1;
    }
    event::check("there are examples", count > 0, format!("{count}"));
    if cmdline.chain().is_empty() {
        return Ok(());
    }
    // What `retrieve` is for; the links are not to go to the next kernel.
    run(&["preserve", "backup", "/etc/fstab", "/etc/hostname"])?;
    for link in ["/boot/initrd.img", "/boot/vmlinuz"] {
        fs::remove_file(link)?;
    }
    drop(initramfs::pack()?);
    let next = *cmdline.chain().first().context("there is no next kernel")?;
    std::os::unix::fs::symlink(format!("/boot/{next}"), "/boot/vmlinuz")?;
    std::os::unix::fs::symlink(initramfs::ARCHIVE, "/boot/initrd.img")?;
    // The command line of the next generation differs from this one's: otherwise the example as it
    // is.
    let example = jump.context("no example updates")?;
    let example = without_luod(example).replace(
        "--reuse-cmdline",
        &format!("--cmdline '{}'", cmdline.for_next()),
    );
    let console = File::options().write(true).open("/dev/ttyS0")?;
    let code = shell(&example).stdout(console).status()?;
    bail!("luoctl came back: {code}")
}

/// No luod runs here, and luoctl does not go on with sessions open unless that is meant.
fn without_luod(example: &str) -> String {
    match example.starts_with("luoctl update") {
        true => format!("{example} --without-luod"),
        false => example.to_owned(),
    }
}

fn shell(line: &str) -> Command {
    let mut shell = Command::new("/bin/busybox");
    shell.args(["sh", "-c", line]).env("PATH", "/bin");
    shell
}
