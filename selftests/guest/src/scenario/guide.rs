// SPDX-License-Identifier: GPL-2.0
//! Types what the user's guide tells root to type, and compares what is printed. The runner has
//! taken it out of the guide.
//!
//! The shell is busybox's. `kexec` is this program: it takes the two command lines of kexec-tools
//! that the guide has, and `--reuse-cmdline` tells the next kernel that it is the next one.

use crate::cmdline::Cmdline;
use crate::{event, initramfs, kexec, sys};
use anyhow::{bail, ensure, Context, Result};
use serde_json::{json, Value};
use std::fs::{self, File};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::process::{Command, Stdio};

const SHELL: &str = "/tests/busybox";
/// Where the commands are: made anew in each kernel, as /tmp is not packed.
const COMMANDS: &str = "/tmp/bin";
const PRINTED: &str = "/tmp/printed";
/// What the guide loads. Both are made after the packing, which would take them along.
const KERNEL: &str = "/boot/vmlinuz";
const INITRD: &str = "/boot/initrd.img";

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let script = fs::read_to_string("/tests/guide.json").context("cannot read the guide")?;
    let script: Value = serde_json::from_str(&script)?;
    let place = usize::try_from(cmdline.generation())?;
    let steps = script[place]
        .as_array()
        .context("the guide has no such kernel")?;
    set_up(cmdline)?;
    for step in steps {
        let (Some(command), Some(wanted)) = (step["command"].as_str(), step["output"].as_str())
        else {
            bail!("a step of the guide is not one: {step}");
        };
        event::send("typed", json!({}));
        if command == "kexec -e" {
            event::send("kexec", json!({}));
        }
        let printed = type_line(command)?;
        event::check(
            &format!("# {command}"),
            printed == wanted,
            printed.trim().replace('\n', " | "),
        );
    }
    Ok(())
}

/// Makes the machine one that has a shell, a kernel to load, and its initramfs.
fn set_up(cmdline: &Cmdline) -> Result<()> {
    if let Some(next) = cmdline.chain().first() {
        drop(initramfs::pack()?);
        symlink(format!("/boot/{next}"), KERNEL)?;
        symlink(initramfs::ARCHIVE, INITRD)?;
    }
    fs::create_dir_all(COMMANDS)?;
    let installed = Command::new(SHELL)
        .args(["--install", "-s", COMMANDS])
        .status()
        .context("cannot run busybox")?;
    ensure!(installed.success(), "busybox cannot install its commands");
    let kexec = format!("{COMMANDS}/kexec");
    let text = format!("#!{COMMANDS}/sh\nexec /init kexec \"$@\"\n");
    // busybox may have a kexec of its own; written through its link, this would go into busybox.
    let _ = fs::remove_file(&kexec);
    fs::write(&kexec, text)?;
    fs::set_permissions(&kexec, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Types a line; gives what it prints. A process that stays behind may keep the file open.
fn type_line(command: &str) -> Result<String> {
    let out = File::create(PRINTED)?;
    Command::new(format!("{COMMANDS}/sh"))
        .args(["-c", command])
        .env("PATH", format!("/tests:{COMMANDS}"))
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .status()
        .context("cannot run the shell")?;
    Ok(String::from_utf8_lossy(&fs::read(PRINTED)?).into_owned())
}

/// `kexec`, as the guide uses it.
pub fn kexec_command() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["-s", "-l", kernel, initrd, "--reuse-cmdline"] => {
            let initrd = initrd
                .strip_prefix("--initrd=")
                .context("--initrd=FILE is missing")?;
            let open = |path: &str| File::open(path).with_context(|| format!("cannot open {path}"));
            let line = Cmdline::read()?.for_next();
            sys::kexec_file_load(&open(kernel)?, &open(initrd)?, &line, 0)
                .context("kexec_file_load failed")
        }
        ["-e"] => kexec::jump(),
        _ => bail!("the guide has a command line of kexec that the test does not know"),
    }
}
