// SPDX-License-Identifier: GPL-2.0
//! kill -9 of luod after each step of an update, with a service manager that keeps descriptors and
//! without; and after the kexec.

use super::daemon::{Luod, Store};
use super::{furnish, hung_up, id, sessions, SMALL, SOON};
use crate::cmdline::Cmdline;
use crate::{event, kexec, memory};
use anyhow::{bail, Context, Result};
use liveupdate_uapi::RetrievedSession;
use luo_client::{Answer, Client, Event, Request, SOCKET};
use std::fs::File;
use std::time::{Duration, Instant};

const STEPS: [&str; 8] = [
    "a service had subscribed",
    "it was told to prepare",
    "the service had its session",
    "the service had preserved",
    "the service was ready",
    "all had answered",
    "it was told to freeze",
    "all was frozen",
];
const READY: usize = 4;
const FROZEN: usize = 7;
const TOKEN: u64 = 1;
/// Services that go through the update.
const IDS: [&str; 3] = ["one", "two", "three"];

pub fn play(cmdline: &Cmdline) -> Result<()> {
    furnish()?;
    if cmdline.generation() > 0 {
        return after();
    }
    for stores in [false, true] {
        for (last, step) in STEPS.iter().enumerate() {
            let with = if stores { "with" } else { "without" };
            let trouble = killed_at(last, stores)?;
            event::check(
                &format!("killed when {step}, {with} a store"),
                trouble.is_empty(),
                trouble.join("; "),
            );
        }
    }
    hand_over(cmdline)
}

/// A service, its memory, and who drives the update.
struct Parts {
    service: Client,
    driver: Client,
    memory: File,
}

fn root() -> Result<(Client, Client)> {
    Ok((Client::connect(SOCKET)?, Client::connect(SOCKET)?))
}

fn prepare() -> Request {
    Request::Prepare {
        deadline_ms: Some(20_000),
        strict: true,
        force: false,
    }
}

fn wait_for(driver: &mut Client, what: fn(&Answer) -> bool) -> Result<()> {
    let until = Instant::now() + SOON;
    loop {
        let answer = driver.read(Some(until))?;
        if what(&answer) {
            return Ok(());
        }
        if matches!(answer, Answer::Error { .. } | Answer::Aborted { .. }) {
            bail!("luod said {answer:?}");
        }
    }
}

/// Has the clients asked; a luod that has just been started may not be ready for that.
fn start_update(driver: &mut Client) -> Result<()> {
    let until = Instant::now() + SOON;
    loop {
        driver.say(&prepare())?;
        match driver.read(Some(until))? {
            Answer::Preparing { .. } => return Ok(()),
            other if Instant::now() > until => bail!("luod said {other:?}"),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn prepared(answer: &Answer) -> bool {
    matches!(answer, Answer::Prepared { .. })
}

fn frozen(answer: &Answer) -> bool {
    matches!(answer, Answer::Frozen { .. })
}

fn aborted(answer: &Answer) -> bool {
    matches!(answer, Answer::Aborted { .. })
}

/// A service's part in an update.
fn preserve(service: &mut Client, memory: &File, name: &str) -> Result<()> {
    let Event::Start { session, .. } = service.event_within(SOON)? else {
        bail!("{name} was not asked to preserve");
    };
    session.preserve(memory, TOKEN)?;
    Ok(service.ready(&id(name)?, session)?)
}

fn killed_at(last: usize, stores: bool) -> Result<Vec<String>> {
    let mut trouble = Vec::new();
    let store = stores.then(Store::open).transpose()?;
    let luod = Luod::start(store.as_ref())?;
    let (service, driver) = root()?;
    let memory = memory::filled(&SMALL, 7)?;
    let mut parts = Parts {
        service,
        driver,
        memory,
    };
    parts.service.subscribe(&id("one")?)?;
    let mut slow = None;
    if last >= 1 {
        parts.driver.say(&prepare())?;
    }
    if last >= 2 {
        let Event::Start { session, .. } = parts.service.event_within(SOON)? else {
            bail!("it was not asked to preserve");
        };
        if last >= 3 {
            session.preserve(&parts.memory, TOKEN)?;
        }
        match last >= READY {
            true => parts.service.ready(&id("one")?, session)?,
            false => slow = Some(session),
        }
    }
    if last >= 5 {
        wait_for(&mut parts.driver, prepared)?;
    }
    if last >= 6 {
        parts.driver.say(&Request::Freeze { hold: false })?;
    }
    if last >= FROZEN {
        wait_for(&mut parts.driver, frozen)?;
    }
    luod.kill()?;
    if !hung_up(&mut parts.service) {
        trouble.push("the service does not see that luod is gone".into());
    }
    // What a service does then.
    drop(slow);
    let Parts {
        service,
        driver,
        memory,
    } = parts;
    drop((service, driver));
    let left = sessions("outgoing")?;
    let kept = |name: &str| left.iter().any(|other| other == name);
    match stores && last >= READY {
        false if !left.is_empty() => trouble.push(format!("nobody owns {}", left.join(", "))),
        true if !kept("luod/0/one") => trouble.push("the session is lost".into()),
        _ => {}
    }
    // The next luod, and an update that goes all the way but for the jump.
    let luod = Luod::start(store.as_ref())?;
    let (mut service, mut driver) = root()?;
    service.subscribe(&id("one")?)?;
    // It reads what has arrived before it prepares anything.
    start_update(&mut driver)?;
    if !(stores && last >= READY) {
        preserve(&mut service, &memory, "one")?;
    }
    wait_for(&mut driver, prepared)?;
    driver.say(&Request::Freeze { hold: false })?;
    wait_for(&mut driver, frozen)?;
    let out = sessions("outgoing")?;
    if out != ["luod/0/one", "luod-internal"] {
        trouble.push(format!("these go to the next kernel: {}", out.join(", ")));
    }
    driver.say(&Request::Abort {
        id: None,
        reason: String::new(),
    })?;
    wait_for(&mut driver, aborted)?;
    match service.event_within(SOON)? {
        Event::Abort { .. } => {}
        other => trouble.push(format!("the service was told {other:?}")),
    }
    if let Some(store) = &store {
        // Its socket is read in a thread of its own.
        let until = Instant::now() + SOON;
        while !store.names().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        trouble.extend(store.names().iter().map(|name| format!("{name} is stored")));
    }
    let left = sessions("outgoing")?;
    if !left.is_empty() {
        trouble.push(format!("in the end nobody owns {}", left.join(", ")));
    }
    if memory.set_len(2 * SMALL.bytes as u64).is_err() {
        trouble.push("the memfd is still preserved".into());
    }
    memory.set_len(SMALL.bytes as u64)?;
    trouble.extend(memory::verify(&memory, &SMALL, 7)?);
    drop(luod);
    Ok(trouble)
}

/// An update in which luod is killed when all is frozen, and goes on.
fn hand_over(cmdline: &Cmdline) -> Result<()> {
    let store = Store::open()?;
    let luod = Luod::start(Some(&store))?;
    let mut services = Vec::new();
    for (name, seed) in IDS.iter().zip(1..) {
        let mut service = Client::connect(SOCKET)?;
        service.subscribe(&id(name)?)?;
        services.push((service, memory::filled(&SMALL, seed)?, *name));
    }
    let mut driver = Client::connect(SOCKET)?;
    driver.say(&prepare())?;
    for (service, memory, name) in &mut services {
        preserve(service, memory, name)?;
    }
    wait_for(&mut driver, prepared)?;
    driver.say(&Request::Freeze { hold: false })?;
    wait_for(&mut driver, frozen)?;
    luod.kill()?;
    // The services end too: what is ready is in the store.
    drop((services, driver));
    let _luod = Luod::start(Some(&store))?;
    let mut driver = Client::connect(SOCKET)?;
    start_update(&mut driver)?;
    wait_for(&mut driver, prepared)?;
    driver.say(&Request::Freeze { hold: false })?;
    wait_for(&mut driver, frozen)?;
    kexec::load(cmdline)?;
    kexec::jump()
}

/// In the next kernel: killed while it reads what has arrived, before a claim, and before the claim
/// is finished.
fn after() -> Result<()> {
    for surprise in 0..12 {
        let luod = Luod::start_only()?;
        std::thread::sleep(Duration::from_millis(surprise * 3));
        luod.kill()?;
    }
    let store = Store::open()?;
    for (name, seed) in IDS.iter().zip(1..) {
        let mut trouble = Vec::new();
        let luod = Luod::start(Some(&store))?;
        let (mut service, mut again) = root()?;
        let session = claim(&mut service, name)?;
        // Between the two is the boot that it is of.
        let end = format!("/luod/0/{name}");
        let is_stored = |name: &String| name.starts_with("in/") && name.ends_with(&end);
        let until = Instant::now() + SOON;
        while !store.names().iter().any(is_stored) {
            if Instant::now() > until {
                bail!("the session is not stored but {:?}", store.names());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let other = again.claim(&id(name)?);
        if other.is_ok() {
            trouble.push("two have claimed it".to_owned());
        }
        // Neither the service nor luod has finished with it.
        drop((session, service));
        luod.kill()?;
        let luod = Luod::start(Some(&store))?;
        let mut service = Client::connect(SOCKET)?;
        let session = claim(&mut service, name)?;
        let file = File::from(session.retrieve(TOKEN)?);
        service.finish(&id(name)?, session)?;
        trouble.extend(memory::verify(&file, &SMALL, seed)?);
        let gone = service.claim(&id(name)?);
        if !matches!(gone, Ok(None)) {
            trouble.push(format!("it can be claimed again: {gone:?}"));
        }
        luod.kill()?;
        let case = format!("{name}: killed before its claim is finished");
        event::check(&case, trouble.is_empty(), trouble.join("; "));
    }
    let left = sessions("incoming")?;
    event::check(
        "nothing is left in the end",
        left.is_empty(),
        left.join(", "),
    );
    Ok(())
}

fn claim(service: &mut Client, name: &str) -> Result<RetrievedSession> {
    let session = service.claim(&id(name)?)?;
    session.with_context(|| format!("nothing has arrived for {name}"))
}
