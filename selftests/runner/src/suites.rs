// SPDX-License-Identifier: GPL-2.0
//! The scenarios: each boots a machine or two and says what must be true of them.

mod agent;
mod boots;
mod formats;
mod guide;
mod host;
pub mod hostile;
mod hostile_luo;
pub mod interop;
mod kasan;
mod kselftest;
mod memfd;
mod negotiate;
mod next_memory;
mod objects;
mod orchestrator;
mod refused;
pub mod soak;
mod uapi;
mod updates;

pub use agent::with_tools;

use crate::check::{self, Check};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::qemu;
use anyhow::Result;
use std::path::PathBuf;

use Which::{Debug, Kasan, Mainline, Older, Ours};

pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub kernels: &'static [Which],
    pub play: fn(&Lab, &str) -> Result<Played>,
}

/// The checks of a scenario, and the logs to look into when one fails.
#[derive(Default)]
pub struct Played {
    pub checks: Vec<Check>,
    pub logs: Vec<PathBuf>,
}

/// Every scenario; the long ones stand first, so that two at a time end together.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "hostile",
        about: "handovers corrupted by name: refused or survived, and life goes on",
        kernels: &[Debug, Ours],
        play: hostile::all,
    },
    Scenario {
        name: "hostile-luo",
        about: "LUO's records corrupted by name: it costs one item, is named, and life goes on",
        kernels: &[Debug, Ours],
        play: hostile_luo::all,
    },
    Scenario {
        name: "host",
        about: "cargo test: everything that runs without a kernel",
        kernels: &[],
        play: host::play,
    },
    Scenario {
        name: "race",
        about:
            "threads and processes use /dev/liveupdate all at once, the update comes in the middle",
        kernels: &[Debug],
        play: orchestrator::race,
    },
    Scenario {
        name: "debug",
        about: "lockdep, DEBUG_VM, KHO_DEBUG, kmemleak: an update without a splat",
        kernels: &[Debug],
        play: updates::debug,
    },
    Scenario {
        name: "faults",
        about: "each allocation of each ioctl fails once, and is undone",
        kernels: &[Debug],
        play: updates::faults,
    },
    Scenario {
        name: "memfd",
        about: "each property of a memfd, through three updates; each failure that must leave it as it was",
        kernels: &[Ours],
        play: |lab, name| memfd::properties(lab, name, Ours, 3),
    },
    Scenario {
        name: "memfd-debug",
        about: "the same through one update, on a kernel with lockdep and DEBUG_VM",
        kernels: &[Debug],
        play: |lab, name| memfd::properties(lab, name, Debug, 1),
    },
    Scenario {
        name: "negotiate",
        about: "images of other formats are refused, or decide what is written; memfd 3 to 2 to 3",
        kernels: &[Ours, Mainline],
        play: negotiate::play,
    },
    Scenario {
        name: "next-memory",
        about: "command lines that would cost what is preserved: refused, and survived when they are not",
        kernels: &[Ours],
        play: next_memory::options,
    },
    Scenario {
        name: "early-cma",
        about: "memory in pieces of 2 MiB, and a next kernel that wants a gigabyte for CMA before it has read what is preserved",
        kernels: &[Ours],
        play: next_memory::early_cma,
    },
    Scenario {
        name: "sparse",
        about: "holes stay holes, a thread writes into them until the jump, extents merge",
        kernels: &[Ours],
        play: |lab, name| negotiate::sparse(lab, name, Ours, true),
    },
    Scenario {
        name: "sparse-debug",
        about: "the same without merging, on a kernel with lockdep and DEBUG_VM",
        kernels: &[Debug],
        play: |lab, name| negotiate::sparse(lab, name, Debug, false),
    },
    Scenario {
        name: "soak",
        about: "ten updates in a row of random files, sessions, objects and services; `make soak` does a thousand",
        kernels: &[Ours],
        play: |lab, name| soak::updates(lab, name, Ours, 10, 1),
    },
    Scenario {
        name: "neighbours",
        about: "swap, collapse, compaction, bad memory, drop_caches: others act until the jump, and while a retrieval is undone",
        kernels: &[Debug],
        play: memfd::neighbours,
    },
    Scenario {
        name: "memfd-2",
        about: "each property of a memfd as version 2 has it, version 3 being hidden",
        kernels: &[Ours],
        play: memfd::version_2,
    },
    Scenario {
        name: "selftests",
        about: "the kernel's own selftests/liveupdate, across a kexec too",
        kernels: &[Ours],
        play: boots::selftests,
    },
    Scenario {
        name: "many-files",
        about: "selftests/liveupdate from ours to mainline's C and back: 500 files in a session",
        kernels: &[Ours, Mainline],
        play: |lab, name| {
            let tests = ["luo_kexec_simple", "luo_multi_session", "luo_stress_files"];
            boots::across(lab, name, &tests)
        },
    },
    Scenario {
        name: "many-sessions",
        about: "selftests/liveupdate from ours to mainline's C and back: 2,000 sessions",
        kernels: &[Ours, Mainline],
        play: |lab, name| boots::across(lab, name, &["luo_stress_sessions"]),
    },
    Scenario {
        name: "kunit",
        about: "KUnit suites of KHO and live update",
        kernels: &[Ours],
        play: boots::kunit,
    },
    Scenario {
        name: "linked",
        about: "no object of mainline's C is in our kernel, and no function takes too much stack",
        kernels: &[Ours],
        play: host::linked,
    },
    Scenario {
        name: "formats",
        about:
            "the catalogue of formats in the kernels that were built, and who can update to whom",
        kernels: &[Ours, Mainline],
        play: formats::play,
    },
    Scenario {
        name: "ioctls",
        about: "each ioctl of /dev/liveupdate with every wrong argument",
        kernels: &[Ours, Mainline],
        play: orchestrator::ioctls,
    },
    Scenario {
        name: "kselftest",
        about: "make -C selftests run_tests, in machines and on this host",
        kernels: &[Ours, Mainline],
        play: kselftest::play,
    },
    Scenario {
        name: "systemd",
        about: "a client that behaves as systemd does, through two updates",
        kernels: &[Ours, Mainline],
        play: orchestrator::systemd,
    },
    Scenario {
        name: "agent-killed",
        about: "kill -9 of the process that holds device and sessions, at each step",
        kernels: &[Ours, Mainline],
        play: orchestrator::agent_killed,
    },
    Scenario {
        name: "luod",
        about: "a host with luod and five services, updated twice by luoctl; one is killed, one hangs, one may not",
        kernels: &[Ours],
        play: agent::services,
    },
    Scenario {
        name: "luod-killed",
        about: "kill -9 of luod at each step, with a service manager that stores descriptors and without",
        kernels: &[Ours],
        play: agent::killed,
    },
    Scenario {
        name: "luod-clients",
        about: "a thousand clients: luod's memory and processor time",
        kernels: &[Ours],
        play: agent::clients,
    },
    Scenario {
        name: "luod-time",
        about: "from luoctl update to the last claim, counted in instructions: nobody, and three services",
        kernels: &[Ours],
        play: agent::time,
    },
    Scenario {
        name: "deb",
        about: "the Debian package of luod and luoctl, installed and started",
        kernels: &[Ours],
        play: agent::deb,
    },
    Scenario {
        name: "luoctl",
        about: "a file of 512 MiB through luoctl, and each example of its manual",
        kernels: &[Ours],
        play: agent::luoctl,
    },
    Scenario {
        name: "uapi",
        about: "our header, mainline's and the Rust crate say the same",
        kernels: &[],
        play: uapi::play,
    },
    Scenario {
        name: "guide",
        about: "Documentation/users.rst, followed to the letter, from C to Rust and back",
        kernels: &[Ours],
        play: guide::play,
    },
    Scenario {
        name: "fragmented",
        about: "512 MiB of which every second page is someone else's",
        kernels: &[Ours],
        play: updates::fragmented,
    },
    Scenario {
        name: "three-in-a-row",
        about: "one memfd through three updates; memory accounts agree",
        kernels: &[Ours],
        play: updates::three,
    },
    Scenario {
        name: "ours-to-ours",
        about: "sessions, memfds, a reserve_mem region, metadata and lib/test_kho.c",
        kernels: &[Ours],
        play: |lab, name| interop::pair(lab, name, Ours, Ours),
    },
    Scenario {
        name: "driver",
        about: "the example driver in Rust: its files count on through two updates",
        kernels: &[Ours],
        play: updates::driver,
    },
    Scenario {
        name: "objects",
        about: "a million preserved slab objects and array values through two updates, and what they cost",
        kernels: &[Ours],
        play: objects::alone,
    },
    Scenario {
        name: "objects-threads",
        about: "four processors allocate and free objects of one preserved slab, through two updates",
        kernels: &[Ours],
        play: objects::threads,
    },
    Scenario {
        name: "objects-debug",
        about: "the same through one update, on kernels with lockdep and SLUB's own checks",
        kernels: &[Debug],
        play: objects::threads_debug,
    },
    Scenario {
        name: "objects-retry",
        about: "an update is called off twice; a million preserved objects change before, between and after",
        kernels: &[Ours],
        play: objects::retry,
    },
    Scenario {
        name: "ring",
        about: "the sample driver in Rust: 10,000 requests in a slab, some of them in flight at each of two updates",
        kernels: &[Ours],
        play: updates::ring,
    },
    Scenario {
        name: "eventfd",
        about: "eventfds through two updates: counts, flags, signals until the jump, undone and refused ones",
        kernels: &[Ours],
        play: updates::eventfd,
    },
    Scenario {
        name: "ours-to-mainline",
        about: "the same, from ours to mainline's C",
        kernels: &[Ours, Mainline],
        play: |lab, name| interop::pair(lab, name, Ours, Mainline),
    },
    Scenario {
        name: "mainline-to-ours",
        about: "the same, from mainline's C to ours",
        kernels: &[Ours, Mainline],
        play: |lab, name| interop::pair(lab, name, Mainline, Ours),
    },
    Scenario {
        name: "ours-to-older",
        about: "the same, from ours to mainline's C of the series before",
        kernels: &[Ours, Older],
        play: |lab, name| interop::pair(lab, name, Ours, Older),
    },
    Scenario {
        name: "older-to-ours",
        about: "the same, from mainline's C of the series before to ours",
        kernels: &[Ours, Older],
        play: |lab, name| interop::pair(lab, name, Older, Ours),
    },
    Scenario {
        name: "same-bytes",
        about: "the root FDT that ours hands over is mainline's, byte by byte, but for a checksum",
        kernels: &[Ours, Mainline],
        play: updates::same_bytes,
    },
    Scenario {
        name: "there-and-back",
        about: "one memfd through ours, mainline, ours, mainline",
        kernels: &[Ours, Mainline],
        play: updates::there_and_back,
    },
    Scenario {
        name: "two-nodes",
        about: "2 NUMA nodes, a memfd on each",
        kernels: &[Ours],
        play: updates::two_nodes,
    },
    Scenario {
        name: "gigabyte",
        about: "a memfd of 1 GiB of small pages",
        kernels: &[Ours],
        play: memfd::gigabyte,
    },
    Scenario {
        name: "in-scratch",
        about: "a memfd whose pages lie in scratch when it is preserved",
        kernels: &[Ours],
        play: memfd::in_scratch,
    },
    Scenario {
        name: "not-deferred",
        about: "struct pages initialised early (early_page_ext)",
        kernels: &[Ours],
        play: updates::not_deferred,
    },
    Scenario {
        name: "page-owner",
        about: "page_ext in use (page_owner=on)",
        kernels: &[Ours],
        play: updates::page_owner,
    },
    Scenario {
        name: "huge-pages",
        about: "a memfd of transparent huge pages",
        kernels: &[Ours],
        play: updates::huge_pages,
    },
    Scenario {
        name: "kho-selftest",
        about: "the kernel's own selftests/kho",
        kernels: &[Ours],
        play: boots::kho_selftest,
    },
    Scenario {
        name: "wrong-magic",
        about: "a root FDT with a wrong magic is refused, and life goes on",
        kernels: &[Ours],
        play: |lab, name| refused::corrupt(lab, name, "magic"),
    },
    Scenario {
        name: "wrong-version",
        about: "a root FDT of an unknown version is refused, and life goes on",
        kernels: &[Ours],
        play: |lab, name| refused::corrupt(lab, name, "version"),
    },
    Scenario {
        name: "overwritten",
        about: "metadata changed after it was complete: the checksum tells",
        kernels: &[Debug, Ours],
        play: refused::overwritten,
    },
    Scenario {
        name: "kho-off",
        about: "kho=off on the command line",
        kernels: &[Ours],
        play: refused::off,
    },
    Scenario {
        name: "small-scratch",
        about: "a scratch area the next kernel does not fit into",
        kernels: &[Ours],
        play: refused::small_scratch,
    },
    Scenario {
        name: "kdump",
        about: "a crash kernel boots with KHO disabled",
        kernels: &[Ours],
        play: refused::kdump,
    },
];

/// What is run when `KASAN=1` says so, or its name: a kernel more to build.
pub const WITH_KASAN: &[Scenario] = &[
    Scenario {
        name: "kasan-selftests",
        about: "selftests/liveupdate on a kernel with the address sanitizer",
        kernels: &[Kasan],
        play: kasan::selftests,
    },
    Scenario {
        name: "kasan-update",
        about: "three kernels with the address sanitizer, one after the other",
        kernels: &[Kasan],
        play: kasan::update,
    },
    Scenario {
        name: "kasan-objects",
        about: "preserved slab objects from four processors, with the address sanitizer and SLUB's own checks",
        kernels: &[Kasan],
        play: kasan::objects,
    },
];

/// Runs a machine and adds the checks that hold for any run.
fn run(lab: &Lab, machine: &Machine) -> Result<(Played, Outcome)> {
    let outcome = qemu::run(lab, machine)?;
    let played = Played {
        checks: check::any_run(machine, &outcome),
        logs: vec![outcome.log.clone()],
    };
    Ok((played, outcome))
}
