// SPDX-License-Identifier: GPL-2.0
//! The scenarios by name; the runner picks one with `lu.scenario=`.

pub mod agent_killed;
mod boot;
mod corrupt;
mod crash;
mod deb;
mod debug;
mod debugfs;
mod demo;
mod driver;
mod eventfd;
mod faults;
mod guide;
mod hostile;
mod hostile_luo;
mod in_scratch;
mod interop;
pub mod ioctls;
mod kselftest;
mod luoctl;
mod luod;
mod many;
pub mod memfd;
mod negotiate;
mod neighbours;
mod next_memory;
mod objects;
mod race;
mod ring;
mod selftests;
mod small_scratch;
mod soak;
mod sparse;
mod splats;
mod sysfs;
mod systemd;
mod update;

use crate::cmdline::Cmdline;
use anyhow::{bail, Result};

/// Whether the orchestrator is ours. Mainline's has no place in sysfs.
fn luo_is_ours() -> bool {
    std::path::Path::new("/sys/kernel/liveupdate").exists()
}

/// What a further process of this program does; scenarios start them as `/init ROLE`.
pub fn helper(role: &str) -> ! {
    let done = match role {
        "open-device" => std::process::exit(ioctls::open_device()),
        "agent-out" => agent_killed::outgoing(),
        "agent-busy" => agent_killed::busy(),
        "luod-with-fds" => luod::with_fds(),
        "racer" => race::racer(),
        "retriever" => neighbours::family::retriever(),
        "kexec" => guide::kexec_command(),
        "agent-in" => agent_killed::incoming(),
        other => Err(anyhow::anyhow!("there is no role {other}")),
    };
    match done {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{role}: {error:#}");
            std::process::exit(1)
        }
    }
}

pub fn play(cmdline: &Cmdline) -> Result<()> {
    match cmdline.get("scenario") {
        Some("boot") => boot::play(),
        Some("update") => update::play(cmdline),
        Some("interop") => interop::play(cmdline),
        Some("kselftest") => kselftest::play(cmdline),
        Some("corrupt") => corrupt::play(cmdline),
        Some("crash") => crash::play(cmdline),
        Some("faults") => faults::play(cmdline),
        Some("guide") => guide::play(cmdline),
        Some("hostile") => hostile::play(cmdline),
        Some("systemd") => systemd::play(cmdline),
        Some("agent-killed") => agent_killed::play(cmdline),
        Some("race") => race::play(cmdline),
        Some("luod") => luod::play(cmdline),
        Some("luod-killed") => luod::killed::play(cmdline),
        Some("luod-timed") => luod::timed(cmdline),
        Some("luod-load") => luod::many_clients(),
        Some("luoctl") => luoctl::play(cmdline),
        Some("deb") => deb::play(),
        Some("demo") => demo::play(cmdline),
        Some("many") => many::play(cmdline),
        Some("ioctls") => ioctls::play(cmdline),
        Some("driver") => driver::play(cmdline),
        Some("eventfd") => eventfd::play(cmdline),
        Some("ring") => ring::play(cmdline),
        Some("hostile-luo") => hostile_luo::play(cmdline),
        Some("memfd") => memfd::play(cmdline),
        Some("objects-retry") => objects::play(cmdline),
        Some("in-scratch") => in_scratch::play(cmdline),
        Some("debug") => debug::play(cmdline),
        Some("selftests") => selftests::play(cmdline),
        Some("neighbours") => neighbours::play(cmdline),
        Some("negotiate") => negotiate::play(cmdline),
        Some("next-memory") => next_memory::play(cmdline),
        Some("sparse") => sparse::play(cmdline),
        Some("soak") => soak::play(cmdline),
        Some("small-scratch") => small_scratch::play(cmdline),
        Some(other) => bail!("the guest knows no scenario \"{other}\""),
        None => bail!("lu.scenario= is missing from the kernel command line"),
    }
}
