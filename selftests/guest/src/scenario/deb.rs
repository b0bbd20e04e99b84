// SPDX-License-Identifier: GPL-2.0
//! The Debian package, on a machine that has little more than a shell: dpkg takes it, and what it
//! has installed works.

use super::luod::furnish;
use crate::event;
use anyhow::{ensure, Context, Result};
use luo_client::{Client, SOCKET};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const INSTALLED: [&str; 6] = [
    "/usr/sbin/luod",
    "/usr/bin/luoctl",
    "/usr/lib/systemd/system/luod.service",
    "/etc/luod.toml",
    "/usr/share/man/man8/luod.8",
    "/usr/share/bash-completion/completions/luoctl",
];

fn shell(line: &str) -> Result<Output> {
    let mut shell = Command::new("/bin/busybox");
    let path = "/bin:/sbin:/usr/bin:/usr/sbin";
    let output = shell.args(["sh", "-c", line]).env("PATH", path).output()?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

pub fn play() -> Result<()> {
    furnish()?;
    fs::write("/etc/group", "root:x:0:\n")?;
    for folder in ["/usr/bin", "/usr/sbin", "/sbin", "/var/lib/dpkg/info"] {
        fs::create_dir_all(folder)?;
    }
    // Which package it is of, and how it is called, is all that is asked of it.
    let passwd =
        "Package: passwd\nVersion: 1\nArchitecture: amd64\nStatus: install ok installed\n\n";
    fs::write("/var/lib/dpkg/status", passwd)?;
    fs::write(
        "/bin/groupadd",
        "#!/bin/sh\n[ \"$*\" = \"--system luod\" ] && echo luod:x:901: >> /etc/group\n",
    )?;
    fs::set_permissions("/bin/groupadd", fs::Permissions::from_mode(0o755))?;
    shell("busybox --install -s /bin")?;
    shell("dpkg -i /tests/luod.deb")?;
    let missing: Vec<&str> = INSTALLED
        .into_iter()
        .filter(|path| !fs::metadata(path).is_ok_and(|data| data.len() > 0))
        .collect();
    event::check("dpkg installs it", missing.is_empty(), missing.join(", "));
    let groups = fs::read_to_string("/etc/group")?;
    let group = groups.lines().find(|line| line.starts_with("luod:"));
    event::check(
        "it makes the group",
        group.is_some(),
        group.unwrap_or_default(),
    );
    let group = group.context("there is no group luod")?;
    let number: u32 = group.split(':').nth(2).context("no number")?.parse()?;
    shell("luod --check")?;
    let mut luod = Command::new("/usr/sbin/luod").spawn()?;
    let until = Instant::now() + Duration::from_secs(20);
    while Client::connect(SOCKET).is_err() {
        ensure!(Instant::now() < until, "luod does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let socket = fs::metadata(SOCKET)?;
    let rights = (socket.mode() & 0o777, socket.uid(), socket.gid());
    event::check(
        "luod starts, and its socket is the group's",
        rights == (0o660, 0, number),
        format!("{rights:?}"),
    );
    let told = shell("luoctl status")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    event::check(
        "luoctl sees it",
        told.contains("operating, "),
        told.replace('\n', " | "),
    );
    shell(&format!("kill {}", luod.id()))?;
    let code = luod.wait()?.code();
    event::check(
        "it ends when it is told to",
        code == Some(0),
        format!("{code:?}"),
    );
    Ok(())
}
