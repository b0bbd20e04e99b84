// SPDX-License-Identifier: GPL-2.0
//! What a thousand clients cost: luod's memory, and its processor time while they subscribe, wait,
//! and take part in an update.

use super::daemon::Luod;
use super::furnish;
use crate::event;
use anyhow::{Context, Result};
use luo_client::{Answer, Client, Event, Id, Request, SOCKET};
use std::fs;
use std::time::{Duration, Instant};

const CLIENTS: u64 = 1000;

/// Resident bytes, and milliseconds of processor time, of a process.
fn cost(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok();
    let ns = schedstat.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .into_iter()
        .flat_map(|rest| rest.split_whitespace().skip(11).take(2))
        .filter_map(|number| number.parse::<u64>().ok())
        .sum();
    let ms = ns.map_or(ticks * 10, |ns| ns / 1_000_000);
    Ok((rss.context("no VmRSS")? << 10, ms))
}

pub fn play() -> Result<()> {
    furnish()?;
    let luod = Luod::start(None)?;
    let pid = luod.pid();
    let empty = cost(pid)?;
    let limit = rustix::process::Rlimit {
        current: Some(8192),
        maximum: Some(8192),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let id = Id::new(&format!("client-{number}"))?;
        let mut client = Client::connect(SOCKET)?;
        client.subscribe(&id)?;
        clients.push((client, id));
    }
    let full = cost(pid)?;
    // Nothing happens: nothing must be done.
    std::thread::sleep(Duration::from_secs(10));
    let idle = cost(pid)?;
    let mut driver = Client::connect(SOCKET)?;
    let began = Instant::now();
    driver.say(&Request::Prepare {
        deadline_ms: Some(60_000),
        strict: true,
        force: false,
    })?;
    for (client, id) in &mut clients {
        if let Event::Start { session, .. } = client.event_within(Duration::from_secs(60))? {
            client.ready(id, session)?;
        }
    }
    let until = Instant::now() + Duration::from_secs(60);
    let ready = loop {
        match driver.read(Some(until))? {
            Answer::Prepared { ready, .. } => break ready,
            Answer::Preparing { .. } | Answer::Client { .. } => {}
            other => anyhow::bail!("luod said {other:?}"),
        }
    };
    let prepared = began.elapsed();
    driver.say(&Request::Freeze { hold: false })?;
    let frozen = matches!(
        driver.read(Some(until))?,
        Answer::Frozen { sessions: CLIENTS }
    );
    let update = cost(pid)?;
    event::check(
        "a thousand clients are ready, and frozen",
        ready == CLIENTS && frozen,
        format!("{ready}"),
    );
    let quiet = idle.1 - full.1;
    event::check(
        "while nothing happens nothing is done",
        quiet <= 50,
        format!("{quiet} ms in 10 s"),
    );
    let each = update.0.saturating_sub(empty.0) / CLIENTS;
    event::check(
        "a client takes less than 16 KiB of luod's memory",
        each < 16 << 10,
        format!(
            "{} KiB empty, {} KiB subscribed, {} KiB frozen",
            empty.0 >> 10,
            full.0 >> 10,
            update.0 >> 10
        ),
    );
    let (subscribing, updating) = (full.1 - empty.1, update.1 - idle.1);
    event::check(
        "a client takes less than a million instructions of luod's, the kernel's for it included",
        subscribing + updating < CLIENTS,
        format!(
            "{subscribing} million for {CLIENTS} subscriptions, {updating} million for their update, which took {} ms",
            prepared.as_millis()
        ),
    );
    Ok(())
}
