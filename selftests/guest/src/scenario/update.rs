// SPDX-License-Identifier: GPL-2.0
//! The main job: memfds and a `reserve_mem` region, patterned, preserved, carried over any number
//! of updates, verified each time.

use super::sysfs;
use crate::cmdline::Cmdline;
use crate::memory::{self, Wish};
use crate::pattern::{self, Depth};
use crate::{event, kexec, machine, physical};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, RetrievedSession, Session};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The session's name in every generation.
const SESSION: &str = "live";
/// The `reserve_mem=` region's name, and its pattern's seed.
const REGION: &str = "demo";
const REGION_SEED: u64 = 0x5eed;

/// What the command line asks for.
struct Plan {
    files: u64,
    wish: Wish,
    fragmented: bool,
    /// Only a page in so many is written; 0: all are.
    sparse: usize,
    nodes: u64,
    region: bool,
    /// The generation that makes the memfds; the ones before it hand over an empty session.
    maker: u64,
}

impl Plan {
    fn read(cmdline: &Cmdline) -> Result<Self> {
        Ok(Self {
            files: cmdline.number("files", 1),
            wish: Wish {
                bytes: usize::try_from(cmdline.number("size", 0))?,
                depth: if cmdline.flag("touch") {
                    Depth::Touch
                } else {
                    Depth::Full
                },
                huge: cmdline.flag("thp"),
                node: None,
            },
            fragmented: cmdline.flag("fragmented"),
            sparse: usize::try_from(cmdline.number("sparse", 0))?,
            nodes: cmdline.number("nodes", 1),
            region: cmdline.flag("region"),
            maker: cmdline.number("maker", 0),
        })
    }

    /// The wish for one file: with several nodes the files take turns.
    fn wish(&self, token: u64) -> Wish {
        let node = (self.nodes > 1).then(|| (token % self.nodes) as u32);
        Wish { node, ..self.wish }
    }

    fn seed(token: u64) -> u64 {
        token + 1
    }
}

pub fn play(cmdline: &Cmdline) -> Result<()> {
    play_and(cmdline, || Ok(()))
}

/// As `play`, and does `last` when this generation's work is done, before the jump or the end.
pub fn play_and(cmdline: &Cmdline, last: impl FnOnce() -> Result<()>) -> Result<()> {
    let plan = Plan::read(cmdline)?;
    let generation = cmdline.generation();
    machine::report_memory("boot")?;
    let files = if generation < plan.maker {
        if generation > 0 {
            drop(retrieve_session()?);
        }
        Vec::new()
    } else if generation == plan.maker {
        // The kernel before may have handed over an empty session, or nothing.
        if let Ok(session) = retrieve_session() {
            session.finish()?;
        }
        make(&plan)?
    } else {
        receive(&plan, generation)?
    };
    if plan.region {
        region(generation)?;
        // A low and a global scratch area, and one a node.
        super::debugfs::check(generation, 2 + usize::try_from(plan.nodes)?)?;
    }
    if cmdline.chain().is_empty() {
        drop(files);
        machine::report_memory("end")?;
        return last();
    }
    let _session = preserve(&files)?;
    if plan.region {
        let mut sessions = Vec::new();
        if generation > plan.maker {
            sessions.push(format!("incoming finished 0 0 {SESSION}"));
        }
        sessions.push(format!("outgoing open {} 0 {SESSION}", plan.files));
        show(
            &plan,
            generation,
            "with a session preserved",
            "operating",
            &sessions,
        );
    }
    last()?;
    event::phase("load", || kexec::load(cmdline))?;
    kexec::jump()
}

fn make(plan: &Plan) -> Result<Vec<File>> {
    let files = event::phase("fill", || {
        (0..plan.files)
            .map(|token| {
                let wish = plan.wish(token);
                if plan.sparse > 0 {
                    return memory::sparse(&wish, plan.sparse, Plan::seed(token));
                }
                if !plan.fragmented {
                    return memory::filled(&wish, Plan::seed(token));
                }
                let (file, runs) = memory::fragmented(&wish, Plan::seed(token))?;
                event::value("runs", runs as u64);
                Ok(file)
            })
            .collect::<Result<Vec<_>>>()
    })?;
    if plan.wish.huge {
        let huge = machine::memory_figure("/proc/meminfo", "ShmemHugePages")?;
        event::value("huge bytes", huge);
    }
    Ok(files)
}

fn preserve(files: &[File]) -> Result<Session> {
    let session = Device::open()?.create_session(SESSION)?;
    let before = machine::free_bytes()?;
    event::phase("preserve", || {
        files.iter().zip(0..).try_for_each(|(file, token)| {
            session
                .preserve(file, token)
                .with_context(|| format!("the file with token {token}"))
        })
    })?;
    event::value(
        "metadata bytes",
        before.saturating_sub(machine::free_bytes()?),
    );
    Ok(session)
}

fn retrieve_session() -> Result<RetrievedSession> {
    Device::open()?
        .retrieve_session(SESSION)
        .context("the session did not arrive")
}

fn receive(plan: &Plan, generation: u64) -> Result<Vec<File>> {
    let session = retrieve_session()?;
    let files = event::phase("retrieve", || {
        (0..plan.files)
            .map(|token| Ok(File::from(session.retrieve(token)?)))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut trouble = None;
    event::phase("verify", || {
        for (file, token) in files.iter().zip(0..) {
            let (wish, seed) = (plan.wish(token), Plan::seed(token));
            let found = match plan.sparse {
                0 => memory::verify(file, &wish, seed)?,
                every => memory::verify_sparse(file, &wish, every, seed)?,
            };
            trouble = trouble.take().or(found);
        }
        Ok(())
    })?;
    event::send(
        "intact",
        json!({"ok": trouble.is_none(), "bytes": plan.files * plan.wish.bytes as u64,
               "detail": trouble.unwrap_or_default()}),
    );
    if plan.nodes > 1 {
        for node in 0..plan.nodes {
            let path = format!("/sys/devices/system/node/node{node}/meminfo");
            event::value(
                &format!("node{node} Shmem"),
                machine::memory_figure(&path, "Shmem")?,
            );
        }
    }
    if plan.region {
        let line = format!("incoming open {0} {0} {SESSION}", plan.files);
        show(
            plan,
            generation,
            "with a session retrieved",
            "updated",
            &[line],
        );
    }
    session.finish()?;
    Ok(files)
}

/// What sysfs must show of the one session.
fn show(plan: &Plan, generation: u64, when: &str, state: &str, sessions: &[String]) {
    sysfs::check(
        when,
        &sysfs::Shown {
            generation,
            state,
            sessions,
            bytes: plan.files * plan.wish.bytes as u64,
        },
    );
}

/// Writes the region in the first generation; in the others checks that it still is what and where
/// it was.
pub fn region(generation: u64) -> Result<()> {
    let (start, bytes) = physical::reserved_region(REGION)?;
    let memory = physical::memory()?;
    let mut words = vec![0u64; usize::try_from(bytes)? / 8];
    if generation == 0 {
        pattern::fill(&mut words, REGION_SEED, Depth::Full);
        let content: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        memory.write_all_at(&content, start).context(
            "cannot write the reserve_mem region through /dev/mem; STRICT_DEVMEM must be off",
        )?;
    } else {
        let mut content = vec![0u8; words.len() * 8];
        memory.read_exact_at(&mut content, start)?;
        for (word, bytes) in words.iter_mut().zip(content.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into()?);
        }
        let damage = pattern::damage(&words, REGION_SEED, Depth::Full);
        let detail = damage.map_or_else(String::new, |(first, count)| {
            format!(
                "{count} pages of the reserve_mem region are damaged, the first is page {first}"
            )
        });
        event::send(
            "region",
            json!({"ok": damage.is_none(), "bytes": bytes, "detail": detail}),
        );
    }
    event::value("region start", start);
    Ok(())
}
