// SPDX-License-Identifier: GPL-2.0
//! /dev/liveupdate as programs meet it: right and wrong calls, clients that behave and clients that
//! die.

use super::{run, Played};
use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use anyhow::Result;
use Which::{Debug, Mainline, Ours};

/// What the guest checks itself, on our kernel and on mainline's: programs must see no difference,
/// but for those it names.
fn on_both(lab: &Lab, name: &str, machine: impl Fn(&str, Which) -> Machine) -> Result<Played> {
    let mut all = Played::default();
    for which in [Ours, Mainline] {
        let (mut played, _) = run(lab, &machine(&format!("{name}/{}", which.name()), which))?;
        for check in &mut played.checks {
            check.name = format!("{}: {}", which.name(), check.name);
        }
        all.checks.extend(played.checks);
        all.logs.extend(played.logs);
    }
    Ok(all)
}

/// Every ioctl with every wrong argument.
pub fn ioctls(lab: &Lab, name: &str) -> Result<Played> {
    let mut played = on_both(lab, name, |name, which| {
        Machine::new(name, "ioctls", which, &[which])
    })?;
    let cases = played.checks.len();
    // A guest that stopped early, or sent half of it, would pass otherwise.
    played.checks.push(Check::new(
        "hardly a case was left out",
        cases > 500,
        format!("{cases} cases"),
    ));
    Ok(played)
}

/// A client as systemd is one; and what it does where there is no live update.
pub fn systemd(lab: &Lab, name: &str) -> Result<Played> {
    let mut played = on_both(lab, name, |name, which| {
        Machine::new(name, "systemd", which, &[which, which])
    })?;
    let machine = Machine::new(&format!("{name}/absent"), "systemd", Ours, &[])
        .word("liveupdate=off")
        .word("lu.absent=1");
    let (absent, _) = run(lab, &machine)?;
    played.checks.extend(absent.checks);
    played.logs.extend(absent.logs);
    Ok(played)
}

/// Agents that are killed, before and after an update.
pub fn agent_killed(lab: &Lab, name: &str) -> Result<Played> {
    on_both(lab, name, |name, which| {
        Machine::new(name, "agent-killed", which, &[which])
    })
}

/// How long threads and processes race.
const RACE_SECONDS: u64 = 300;

/// The race, on the kernel with lockdep and kmemleak. `RACE_SECONDS=20` in the environment makes it
/// short.
pub fn race(lab: &Lab, name: &str) -> Result<Played> {
    let seconds = std::env::var("RACE_SECONDS").ok();
    let seconds = seconds
        .and_then(|text| text.parse().ok())
        .unwrap_or(RACE_SECONDS);
    let machine = Machine::new(name, "race", Debug, &[Debug, Debug])
        .timeout(2 * seconds + 300)
        .word(&format!("lu.seconds={seconds}"));
    let (mut played, outcome) = run(lab, &machine)?;
    let alive = ["Lock dependency validator"];
    played
        .checks
        .push(check::says(&outcome, 0, "lockdep is at work", &alive));
    Ok(played)
}
