// SPDX-License-Identifier: GPL-2.0
//! eventfds through real updates: their counts and flags arrive, whoever signals them until the
//! machine jumps, and nobody else's files are taken for them.

use super::driver;
use crate::cmdline::Cmdline;
use crate::sys::{Mapping, PAGE};
use crate::{event, kexec};
use anyhow::{Context, Result};
use liveupdate_uapi::{Device, Errno, PreserveError, RetrieveSessionError, Session};
use rustix::event::{epoll, eventfd, EventfdFlags};
use rustix::fs::{fcntl_setfl, memfd_create, MemfdFlags, OFlags};
use rustix::time::{timerfd_create, TimerfdClockId, TimerfdFlags};
use std::fs::{read_to_string, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

const SESSION: &str = "eventfds";
/// Nobody asks for this one.
const FORGOTTEN: u64 = 100;
/// Signalled until the machine jumps, and where it is written down how often.
const SIGNALLED: u64 = 101;
const WRITTEN_DOWN: u64 = 102;
/// The largest count that write(2) leads to.
const MOST: u64 = u64::MAX - 1;

/// An eventfd: how it is made, and what is done to it once it is preserved.
struct Case {
    name: &'static str,
    count: u64,
    semaphore: bool,
    nonblocking: bool,
    /// Added once it is preserved, in every generation.
    later: u64,
    /// Whether read(2) is called once it is preserved.
    read: bool,
    /// Whether O_NONBLOCK is turned round once it is preserved.
    turned: bool,
}

const PLAIN: Case = Case {
    name: "",
    count: 0,
    semaphore: false,
    nonblocking: false,
    later: 0,
    read: false,
    turned: false,
};

#[rustfmt::skip]
const CASES: [Case; 8] = [
    Case { name: "empty", ..PLAIN },
    Case { name: "with a count", count: 7, ..PLAIN },
    Case { name: "a semaphore", count: 3, semaphore: true, ..PLAIN },
    Case { name: "full", count: MOST, nonblocking: true, ..PLAIN },
    Case { name: "a nonblocking semaphore", count: 1 << 40, semaphore: true, nonblocking: true, ..PLAIN },
    Case { name: "signalled later", count: 5, later: 10, ..PLAIN },
    Case { name: "read later", count: 9, semaphore: true, read: true, ..PLAIN },
    Case { name: "its flag changed later", count: 2, turned: true, ..PLAIN },
];

impl Case {
    /// Count and whether it is nonblocking, before the generation preserves it.
    fn at(&self, generation: u64) -> (u64, bool) {
        let read = if self.read { generation } else { 0 };
        let turned = self.turned && generation % 2 == 1;
        (
            self.count + generation * self.later - read,
            self.nonblocking != turned,
        )
    }

    fn make(&self) -> Result<File> {
        let mut flags = EventfdFlags::CLOEXEC;
        flags.set(EventfdFlags::SEMAPHORE, self.semaphore);
        flags.set(EventfdFlags::NONBLOCK, self.nonblocking);
        let mut file = new(flags)?;
        if self.count > 0 {
            signal(&mut file, self.count)?;
        }
        Ok(file)
    }

    /// What is done once it is preserved.
    fn use_it(&self, file: &mut File, generation: u64) -> Result<()> {
        if self.later > 0 {
            signal(file, self.later)?;
        }
        if self.read {
            let mut bytes = [0; 8];
            file.read_exact(&mut bytes)
                .context("cannot read an eventfd")?;
        }
        if self.turned {
            let (_, nonblocking) = self.at(generation);
            let mut flags = OFlags::RDWR;
            flags.set(OFlags::NONBLOCK, !nonblocking);
            fcntl_setfl(&*file, flags).context("cannot change a flag")?;
        }
        Ok(())
    }

    /// Whether the file is as it must be before the generation preserves it.
    fn check(&self, file: &File, generation: u64, when: &str) -> Result<()> {
        let (count, nonblocking) = self.at(generation);
        let expected = (count, self.semaphore, nonblocking);
        let seen = look(file)?;
        event::check(
            &format!("{}: {when}", self.name),
            seen == expected,
            format!("{seen:?}, and {expected:?} is right"),
        );
        Ok(())
    }
}

pub fn play(cmdline: &Cmdline) -> Result<()> {
    let generation = cmdline.generation();
    let mut files = match generation {
        0 => first(cmdline)?,
        _ => received(generation)?,
    };
    if cmdline.chain().is_empty() {
        return Ok(());
    }
    let session = preserve(&files)?;
    for (case, file) in CASES.iter().zip(&mut files) {
        case.use_it(file, generation)?;
    }
    let _session = signal_until_the_jump(session)?;
    kexec::load(cmdline)?;
    kexec::jump()
}

/// The files, which went through all that can be undone.
fn first(cmdline: &Cmdline) -> Result<Vec<File>> {
    let files: Vec<File> = CASES.iter().map(Case::make).collect::<Result<_>>()?;
    others_are_refused()?;
    let session = preserve(&files)?;
    one_owner(&session, &files[0])?;
    drop(session);
    as_before(&files, "given up, it is as it was")?;

    let session = preserve(&files)?;
    let cannot = driver::a_file_that_cannot_be_frozen()?;
    kexec::load(cmdline)?;
    let stayed = kexec::jump();
    let errno = stayed
        .as_ref()
        .err()
        .and_then(|e| e.downcast_ref::<Errno>());
    event::check(
        "a reboot that fails",
        errno == Some(&Errno::INVAL),
        format!("{errno:?}"),
    );
    as_before(&files, "after it, it is as it was")?;
    drop((cannot, session));
    as_before(&files, "and so when it is given up")?;
    Ok(files)
}

fn as_before(files: &[File], when: &str) -> Result<()> {
    for (case, file) in CASES.iter().zip(files) {
        case.check(file, 0, when)?;
    }
    // It still works.
    let mut semaphore = files[2].try_clone()?;
    let mut bytes = [0; 8];
    semaphore.read_exact(&mut bytes)?;
    event::check(
        &format!("a semaphore gives one, {when}"),
        u64::from_ne_bytes(bytes) == 1,
        format!("{bytes:?}"),
    );
    signal(&mut semaphore, 1)
}

/// Files that are much like eventfds, and are none.
fn others_are_refused() -> Result<()> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let (pipe, _other) = rustix::pipe::pipe()?;
    let others: [(&str, OwnedFd); 4] = [
        ("a timerfd", timer),
        ("an epoll", poll),
        ("a pipe", pipe),
        ("/dev/null", File::open("/dev/null")?.into()),
    ];
    let session = Device::open()?.create_session("others")?;
    for (token, (name, file)) in (0..).zip(&others) {
        let refused = session.preserve(file.as_fd(), token);
        event::check(
            &format!("{name} is no eventfd"),
            refused == Err(PreserveError::Unsupported),
            format!("{refused:?}"),
        );
    }
    Ok(())
}

/// A file that is preserved is preserved for nobody else, by whatever descriptor.
fn one_owner(session: &Session, file: &File) -> Result<()> {
    let other = Device::open()?.create_session("another")?;
    let copy = file.try_clone()?;
    for (name, refused) in [
        ("in the same session", session.preserve(&copy, 50)),
        ("in another one", other.preserve(&copy, 50)),
    ] {
        event::check(
            &format!("an eventfd has one owner: {name}"),
            refused == Err(PreserveError::FilePreserved),
            format!("{refused:?}"),
        );
    }
    Ok(())
}

fn preserve(files: &[File]) -> Result<Session> {
    let session = Device::open()?.create_session(SESSION)?;
    for (token, file) in (0..).zip(files) {
        session.preserve(file, token)?;
    }
    // Its last descriptor is closed here: the session alone keeps it.
    session.preserve(&new(EventfdFlags::CLOEXEC)?, FORGOTTEN)?;
    Ok(session)
}

/// Signals an eventfd as fast as it goes, and writes down how often, in a thread that runs until
/// the machine jumps.
fn signal_until_the_jump(session: Session) -> Result<Session> {
    let mut file = new(EventfdFlags::CLOEXEC)?;
    let memory = File::from(memfd_create("signals", MemfdFlags::CLOEXEC)?);
    memory.set_len(PAGE as u64)?;
    let mapping = Mapping::new(&memory, PAGE)?;
    mapping.populate()?;
    session.preserve(&file, SIGNALLED)?;
    session.preserve(&memory, WRITTEN_DOWN)?;
    let address = mapping.address();
    std::thread::spawn(move || {
        let words = mapping.atomic_words();
        while signal(&mut file, 1).is_ok() {
            words[0].fetch_add(1, Ordering::SeqCst);
        }
    });
    event::send(
        "signalling",
        serde_json::json!({ "address": format!("{address:#x}") }),
    );
    Ok(session)
}

fn received(generation: u64) -> Result<Vec<File>> {
    let session = Device::open()?
        .retrieve_session(SESSION)
        .context("the session did not arrive")?;
    let mut files = Vec::new();
    for (token, case) in (0..).zip(&CASES) {
        let file = File::from(session.retrieve(token)?);
        let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        event::check(
            &format!("{}: what arrived is an eventfd", case.name),
            name.as_os_str() == "anon_inode:[eventfd]",
            name.display().to_string(),
        );
        case.check(&file, generation, "it arrived")?;
        files.push(file);
    }
    let (signalled, _, _) = look(&File::from(session.retrieve(SIGNALLED)?))?;
    let memory = File::from(session.retrieve(WRITTEN_DOWN)?);
    let written = Mapping::new(&memory, PAGE)?.words()[0];
    event::check(
        "no signal was lost until the machine jumped",
        written > 0 && (signalled == written || signalled == written + 1),
        format!("{signalled} signalled, {written} written down"),
    );
    // The one that nobody asked for is given back with it.
    session.finish()?;
    let again = Device::open()?.retrieve_session(SESSION).map(|_| ());
    event::check(
        "what is finished is gone",
        again == Err(RetrieveSessionError::Unknown),
        format!("{again:?}"),
    );
    Ok(files)
}

fn new(flags: EventfdFlags) -> Result<File> {
    Ok(eventfd(0, flags).context("cannot make an eventfd")?.into())
}

fn signal(file: &mut File, count: u64) -> Result<()> {
    file.write_all(&count.to_ne_bytes())
        .context("cannot signal an eventfd")
}

/// Count, whether it is a semaphore, and whether it is nonblocking, without changing any of it.
fn look(file: &File) -> Result<(u64, bool, bool)> {
    let text = read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let field = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
            .with_context(|| format!("fdinfo has no {name}: {text}"))
    };
    let count = u64::from_str_radix(field("eventfd-count")?, 16)?;
    let flags = u32::from_str_radix(field("flags")?, 8)?;
    Ok((
        count,
        field("eventfd-semaphore")? == "1",
        flags & OFlags::NONBLOCK.bits() != 0,
    ))
}
