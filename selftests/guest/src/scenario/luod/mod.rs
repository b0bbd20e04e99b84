// SPDX-License-Identifier: GPL-2.0
//! A host with several services and luod on it, updated twice with luoctl. One service is killed,
//! one hangs, one may not.

mod daemon;
pub mod killed;
mod load;
mod process;

pub use daemon::{with_fds, Luod};
pub use load::play as many_clients;
pub use process::Program;

use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use crate::{event, initramfs};
use anyhow::{bail, Context, Result};
use luo_client::{Client, Event, Failure, Id, SOCKET};
use rustix::process::Signal;
use serde_json::{json, Value};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

/// Entries of each cache.
const ENTRIES: &str = "20000";
/// A user of the group, and one who is not.
const MEMBER: u32 = 1001;
const OUTSIDER: u32 = 2000;
const GROUP: u32 = 900;
const SOON: Duration = Duration::from_secs(20);
/// Seconds that services have, so that one that hangs does not hold the test up.
const DEADLINE: &str = "3";
const SMALL: Wish = Wish {
    bytes: 256 << 10,
    depth: Depth::Full,
    huge: false,
    node: None,
};

/// What programs find on a host.
pub fn furnish() -> Result<()> {
    for folder in ["/run", "/etc", "/var"] {
        fs::create_dir_all(folder)?;
    }
    fs::write("/etc/group", format!("root:x:0:\nluod:x:{GROUP}:\n"))?;
    fs::write("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n")?;
    Ok(())
}

fn id(text: &str) -> Result<Id> {
    Ok(Id::new(text)?)
}

/// Names of the sessions on one side, as the kernel lists them.
pub fn sessions(side: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string("/sys/kernel/liveupdate/sessions")?;
    let lines = text.lines().filter(|line| line.starts_with(side));
    let open = lines.filter(|line| !line.contains(" finished "));
    let names = open.filter_map(|line| line.splitn(6, ' ').nth(5));
    Ok(names.map(str::to_owned).collect())
}

fn services(entries: &str) -> Result<[Program; 3]> {
    Ok([
        Program::start("/tests/cache", &["cache", entries], 0, 0)?,
        Program::start("/tests/cache", &["cache", entries], MEMBER, GROUP)?,
        Program::start("/tests/counter", &["counter"], MEMBER, GROUP)?,
    ])
}

pub fn play(cmdline: &Cmdline) -> Result<()> {
    furnish()?;
    let generation = cmdline.generation();
    let _luod = Luod::start(None)?;
    let mut services = services(ENTRIES)?;
    let caches = match generation {
        0 => "cold 0".to_owned(),
        _ => format!("warm {ENTRIES}"),
    };
    let count = format!("count {}", generation + 1);
    let names = ["root's cache", "a user's cache", "the counter in C"];
    for ((service, name), said) in services
        .iter_mut()
        .zip(names)
        .zip([&caches, &caches, &count])
    {
        let line = service.line(SOON).unwrap_or_default();
        let what = format!("{name} has all it had: {said}");
        event::check(&what, line == *said, line);
        service.expect("serving", SOON)?;
    }
    if generation > 0 {
        event::send("last claim", json!({}));
        after()?;
    }
    if generation == 0 {
        outsider()?;
        called_off(cmdline, &mut services)?;
    }
    if cmdline.chain().is_empty() {
        return status();
    }
    update(cmdline, services, generation == 0)
}

/// How long an update takes from `luoctl update` to the last claim: first with nobody, then with
/// three services.
pub fn timed(cmdline: &Cmdline) -> Result<()> {
    furnish()?;
    let generation = cmdline.generation();
    let _luod = Luod::start(None)?;
    if generation < 2 {
        let claimed = Client::connect(SOCKET)?.claim(&id("nobody")?)?;
        event::send("last claim", json!({}));
        event::check("nothing has arrived", claimed.is_none(), "");
    }
    let services = match generation {
        0 => None,
        // Small caches: what is looked for is the time of the update, not of looking into them.
        _ => Some(services("100")?),
    };
    let begin = if generation < 2 {
        ["cold", "cold", "count 1"]
    } else {
        ["warm", "warm", "count 2"]
    };
    let mut services = services.into_iter().flatten().collect::<Vec<_>>();
    for (service, begin) in services.iter_mut().zip(begin) {
        service.expect(begin, SOON)?;
    }
    if generation == 2 {
        event::send("last claim", json!({}));
        return Ok(());
    }
    for service in &mut services {
        service.expect("serving", SOON)?;
    }
    drop(initramfs::pack()?);
    let console = fs::File::options().write(true).open("/dev/ttyS0")?;
    event::send("update", json!({}));
    let code = luoctl(cmdline, &[])?.stdout(console).status()?;
    bail!("luoctl came back: {code}")
}

/// What is left of the update when everybody has claimed.
fn after() -> Result<()> {
    let left = sessions("incoming")?;
    let nothing = left.is_empty();
    event::check("nothing of the update is left", nothing, left.join(", "));
    let mut luod = Client::connect(SOCKET)?;
    for (name, why) in [
        ("counter", "another user's id is not root's to claim"),
        ("hung", "what hung did not arrive"),
        ("killed", "what was killed did not arrive"),
    ] {
        let got = luod.claim(&id(name)?);
        let none = matches!(got, Ok(None));
        event::check(why, none, format!("{got:?}"));
    }
    let state = fs::read_to_string("/sys/kernel/liveupdate/state")?;
    event::check(
        "all is operating again",
        state.trim() == "operating",
        state.trim(),
    );
    Ok(())
}

/// A user outside of the group: the socket's mode keeps it out, and luod does too.
fn outsider() -> Result<()> {
    let mut outside = Program::start("/tests/cache", &["sly", "10"], OUTSIDER, OUTSIDER)?;
    let line = outside.line(SOON).unwrap_or_default();
    let kept = line.contains("Permission denied");
    event::check("an outsider cannot connect", kept, line);
    fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o666))?;
    let refused = outside.expect("no luod: only root and members", SOON);
    event::check(
        "and is refused by luod where it can",
        refused.is_ok(),
        refused.unwrap_or_else(|error| error.to_string()),
    );
    fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o660))?;
    Ok(())
}

/// `luoctl update` to the next kernel of the chain.
pub fn luoctl(cmdline: &Cmdline, more: &[&str]) -> Result<Command> {
    let chain = cmdline.chain();
    let next = chain.first().context("there is no next kernel")?;
    let mut luoctl = Command::new("/bin/luoctl");
    luoctl
        .arg("update")
        .arg(format!("/boot/{next}"))
        .args(["--initrd", initramfs::ARCHIVE, "--cmdline"])
        .arg(cmdline.for_next())
        .args(more);
    Ok(luoctl)
}

/// Ctrl-C undoes all, and so do a dry run and a service that is missing when none may be.
fn called_off(cmdline: &Cmdline, services: &mut [Program; 3]) -> Result<()> {
    drop(initramfs::pack()?);
    let mut hung = Client::connect(SOCKET)?;
    hung.subscribe(&id("hung")?)?;
    let mut judge = |case: &str, code: Option<i32>, expected: i32, said: &str| -> Result<()> {
        let mut trouble = Vec::new();
        if code != Some(expected) {
            trouble.push(format!("exit code {code:?}, said {said}"));
        }
        for service in services.iter_mut() {
            for word in ["preserved", "goes on"] {
                if let Err(error) = service.expect(word, SOON) {
                    trouble.push(error.to_string());
                }
            }
        }
        while let Ok(event) = hung.event_within(Duration::from_millis(100)) {
            drop(event);
        }
        let left = sessions("outgoing")?;
        if !left.is_empty() {
            trouble.push(format!("left: {}", left.join(", ")));
        }
        if fs::read_to_string("/sys/kernel/kexec_loaded")?.trim() != "0" {
            trouble.push("the kernel is still loaded".into());
        }
        event::check(case, trouble.is_empty(), trouble.join("; "));
        Ok(())
    };
    let mut update = Program::spawn(luoctl(cmdline, &["--deadline", "60"])?)?;
    let counted = (0..3).all(|_| update.expect("service", SOON).is_ok());
    update.signal(Signal::INT)?;
    let code = update.end(SOON)?;
    let case = "Ctrl-C undoes an update that waits for a service";
    judge(case, code.filter(|_| counted), 130, &update.all())?;
    let mut update = Program::spawn(luoctl(cmdline, &["--deadline", "1", "--strict"])?)?;
    let code = update.end(SOON)?;
    let case = "with --strict one that hangs calls the update off";
    judge(case, code, 1, &update.all())?;
    let mut update = Program::spawn(luoctl(cmdline, &["--deadline", "1", "--dry-run"])?)?;
    let code = update.end(SOON)?;
    judge("a dry run does all but the kexec", code, 0, &update.all())
}

/// The update itself: the transcript goes to the console.
fn update(cmdline: &Cmdline, services: [Program; 3], bad: bool) -> Result<()> {
    drop(initramfs::pack()?);
    // It never reads what luod says.
    let mut hung = Client::connect(SOCKET)?;
    let mut killed = Client::connect(SOCKET)?;
    if bad {
        hung.subscribe(&id("hung")?)?;
        killed.subscribe(&id("killed")?)?;
    }
    let console = fs::File::options().write(true).open("/dev/ttyS0")?;
    event::send("update", json!({}));
    let mut luoctl = luoctl(cmdline, &["--deadline", DEADLINE])?
        .stdout(console)
        .spawn()
        .context("cannot run luoctl")?;
    if bad {
        // It dies with its file in the session, before it has said that it is ready.
        if let Event::Start { session, .. } = killed.event_within(SOON)? {
            session.preserve(memory::filled(&SMALL, 1)?, 1)?;
        }
        drop(killed);
        // One that dies when it is ready loses nothing.
        let [_, mut users, _] = services;
        users.expect("preserved", SOON)?;
        drop(users);
    }
    let code = luoctl.wait()?;
    bail!("luoctl came back: {code}")
}

/// What luoctl says of all this.
fn status() -> Result<()> {
    let out = Command::new("/bin/luoctl")
        .args(["status", "--json"])
        .output()?;
    let told: Value = serde_json::from_slice(&out.stdout)?;
    let clients = told["luod"]["clients"].as_array().map_or(0, Vec::len);
    let right = told["enabled"] == json!(true)
        && told["update_number"] == json!(2)
        && told["state"] == json!("operating")
        && told["luod"]["phase"] == json!("operating")
        && clients == 3;
    event::check("luoctl status shows it", right, told.to_string());
    let unknown = Command::new("/bin/luoctl").arg("frobnicate").output()?;
    event::check(
        "a command that is none has exit code 2",
        unknown.status.code() == Some(2),
        String::from_utf8_lossy(&unknown.stderr)
            .lines()
            .next()
            .unwrap_or_default(),
    );
    let absent = Command::new("/bin/luoctl")
        .args(["finish", "none"])
        .output()?;
    let text = String::from_utf8_lossy(&absent.stderr).into_owned();
    let good = absent.status.code() == Some(1) && text.contains("luoctl list");
    event::check(
        "a session that is not there has exit code 1, and advice",
        good,
        text,
    );
    Ok(())
}

/// Waits for the end of a connection.
fn hung_up(client: &mut Client) -> bool {
    loop {
        match client.event_within(SOON) {
            Ok(_) => {}
            Err(Failure::Timeout) => return false,
            Err(_) => return true,
        }
    }
}
