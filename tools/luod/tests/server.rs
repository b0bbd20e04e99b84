// SPDX-License-Identifier: GPL-2.0
//! luod's event loop with real sockets and a device that is none: what a bad client does hurts itself alone.

use luo_client::{decode, encode, receive, send, Answer, Client, Code, Event, Id, Lines, Request};
use luod::catalogue::{Catalogue, Entry};
use luod::config::Config;
use luod::device::{Device, DeviceError};
use luod::kept::Boot;
use luod::server::Server;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// Sessions are empty files. The device is busy as often as it is told, and the record of a luod before goes with a delay.
struct Fake {
    busy: Arc<AtomicU64>,
    old_records: u32,
}

impl Fake {
    fn session(&self) -> Result<Rc<OwnedFd>, DeviceError> {
        let one_less = |left: u64| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.busy.fetch_update(order, order, one_less).is_ok() {
            return Err(DeviceError::Busy);
        }
        let file =
            File::open("/dev/null").map_err(|error| DeviceError::Other(error.to_string()))?;
        Ok(Rc::new(file.into()))
    }
}

impl Device for Fake {
    type Session = Rc<OwnedFd>;

    fn create(&mut self, _name: &str) -> Result<Rc<OwnedFd>, DeviceError> {
        self.session()
    }

    fn retrieve(&mut self, name: &str) -> Result<Rc<OwnedFd>, DeviceError> {
        match name.ends_with("/arrived") {
            true => self.session(),
            false => Err(DeviceError::Unknown),
        }
    }

    fn preserve_record(&mut self, _record: &[u8]) -> Result<Rc<OwnedFd>, DeviceError> {
        if let Some(left) = self.old_records.checked_sub(1) {
            self.old_records = left;
            return Err(DeviceError::Exists);
        }
        self.session()
    }

    fn retrieve_record(&mut self) -> Result<Option<Vec<u8>>, DeviceError> {
        let id = Id::new("arrived").expect("an id");
        let (uid, complete) = (rustix::process::getuid().as_raw(), true);
        let entry = Entry { uid, id, complete };
        Ok(Some(Catalogue::new(vec![entry]).to_bytes()))
    }

    fn adopt_record(&mut self, _name: &str, _session: Rc<OwnedFd>) {}

    fn sides(&mut self) -> Option<Vec<(bool, String)>> {
        None
    }

    fn note(&mut self, _record: &[u8]) {}

    fn noted(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn store(&mut self, _name: &str, _session: &Rc<OwnedFd>) {}

    fn unstore(&mut self, _name: &str) {}
}

/// luod in a thread.
struct Host {
    path: PathBuf,
    stop: UnixStream,
    busy: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (stop, told) = UnixStream::pair().expect("a pair");
        let busy = Arc::new(AtomicU64::new(0));
        let device_busy = Arc::clone(&busy);
        let thread = std::thread::spawn(move || {
            // Whoever runs the tests may subscribe.
            let group = rustix::process::getgid().as_raw().to_string();
            let config = Config {
                group,
                connections: 200,
                connections_per_user: 200,
                ..Config::default()
            };
            let device = Fake {
                busy: device_busy,
                old_records: 3,
            };
            let server = Server::new(device, config, Boot::new("1"), listener, told, Vec::new());
            server.and_then(|mut server| server.run()).expect("it runs");
        });
        Self {
            path,
            stop,
            busy,
            thread: Some(thread),
            _folder: folder,
        }
    }

    fn raw(&self) -> UnixStream {
        let socket = UnixStream::connect(&self.path).expect("luod listens");
        socket.set_read_timeout(Some(SOON)).expect("a limit");
        socket.set_write_timeout(Some(SOON)).expect("a limit");
        socket
    }

    /// A good client is served as if nothing had been.
    fn is_well(&self) {
        let began = Instant::now();
        let mut client = Client::connect(&self.path).expect("luod listens");
        let id = Id::new("good").expect("an id");
        client.subscribe(&id).expect("subscribed");
        client.say(&Request::Unsubscribe { id }).expect("said");
        let answer = client.read(Some(began + SOON)).expect("an answer");
        assert!(matches!(answer, Answer::Ok { .. }), "{answer:?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.stop.write_all(b"x");
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("luod ends well");
            }
        }
    }
}

/// All that luod says until it hangs up.
fn last_words(mut socket: UnixStream) -> Vec<Answer> {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    let mut lines = Lines::new(1 << 20);
    lines.push(&bytes);
    let mut answers = Vec::new();
    while let Ok(Some(line)) = lines.next_line() {
        answers.push(decode(&line).expect("luod speaks its protocol"));
    }
    answers
}

fn ends_with(socket: UnixStream, code: Code) {
    match last_words(socket).pop() {
        Some(Answer::Error { error, .. }) => assert_eq!(error.code, code, "{error:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn half_a_line_and_nothing_more() {
    let host = Host::new();
    let half = host.raw();
    (&half).write_all(b"{\"type\":\"SUBSC").expect("sent");
    host.is_well();
    (&half)
        .write_all(b"RIBE\",\"id\":\"slow\"}\n")
        .expect("sent");
    let mut answer = [0; 200];
    let count = (&half).read(&mut answer).expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..count]).contains("SUBSCRIBED"));
    drop(host.raw());
    host.is_well();
}

#[test]
fn a_line_of_a_gibibyte() {
    let host = Host::new();
    let mut long = host.raw();
    let piece = vec![b'x'; 1 << 16];
    let mut sent = 0usize;
    while sent < 1 << 30 {
        match long.write(&piece) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    assert!(sent < 1 << 20, "{sent} bytes were taken");
    host.is_well();
}

#[test]
fn bad_utf8_and_what_is_no_message() {
    let host = Host::new();
    for line in [
        &b"{\"type\":\"READY\",\"id\":\"\xff\xfe\"}\n"[..],
        b"\n",
        b"[]\n",
        b"{{{{\n",
    ] {
        let mut bad = host.raw();
        bad.write_all(line).expect("sent");
        ends_with(bad, Code::BadLine);
    }
    // These are answered, and the connection goes on.
    let odd = host.raw();
    (&odd).write_all(b"{\"type\":\"JUMP\",\"id\":\"me\"}\n{\"version\":9,\"type\":\"STATUS\"}\n{\"type\":\"READY\",\"id\":\"me\"}\n").expect("sent");
    odd.shutdown(std::net::Shutdown::Write).expect("shut");
    let codes: Vec<Code> = last_words(odd)
        .into_iter()
        .filter_map(|answer| match answer {
            Answer::Error { error, .. } => Some(error.code),
            _ => None,
        })
        .collect();
    assert_eq!(
        codes,
        [Code::BadMessage, Code::BadVersion, Code::WrongState]
    );
    host.is_well();
}

#[test]
fn a_hundred_descriptors() {
    let host = Host::new();
    let count = || std::fs::read_dir("/proc/self/fd").expect("ours").count();
    let before = count();
    for number in [1, 100] {
        let bad = host.raw();
        let file = File::open("/dev/null").expect("open");
        let fds = vec![file.as_fd(); number];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let line = encode(&Request::Status);
        rustix::net::sendmsg(
            &bad,
            &[IoSlice::new(&line)],
            &mut control,
            SendFlags::empty(),
        )
        .expect("sent");
        ends_with(bad, Code::BadLine);
    }
    host.is_well();
    // Other tests of this process open some meanwhile, but not a hundred.
    assert!(count() < before + 60);
}

#[test]
fn a_flood() {
    let host = Host::new();
    let mut flood = host.raw();
    let line = encode(&Request::Ready {
        id: Id::new("x").expect("an id"),
    });
    let many = line.repeat(100);
    let until = Instant::now() + SOON;
    while flood.write_all(&many).is_ok() {
        assert!(Instant::now() < until, "it goes on and on");
    }
    host.is_well();
}

#[test]
fn one_that_reads_nothing() {
    let host = Host::new();
    let deaf = host.raw();
    deaf.set_write_timeout(Some(Duration::from_millis(100)))
        .expect("a limit");
    let line = encode(&Request::Status);
    // As fast as is allowed, until luod has had enough or the socket is full: answers are longer than questions.
    for _ in 0..3_000 {
        if (&deaf).write_all(&line).is_err() {
            break;
        }
    }
    host.is_well();
}

#[test]
fn too_many_connections() {
    let host = Host::new();
    let mut all: Vec<UnixStream> = (0..200).map(|_| host.raw()).collect();
    ends_with(host.raw(), Code::TooMany);
    all.truncate(100);
    let until = Instant::now() + SOON;
    while !matches!(last_try(&host), Some(Answer::Subscribed { .. })) {
        assert!(Instant::now() < until, "no room is made");
    }
}

fn last_try(host: &Host) -> Option<Answer> {
    let socket = host.raw();
    let id = Id::new("late").ok()?;
    send(&socket, &encode(&Request::Subscribe { id }), None).ok()?;
    let mut buffer = [0; 4096];
    let got = receive(&socket, &mut buffer, true).ok()?;
    let mut lines = Lines::new(4096);
    lines.push(&buffer[..got.bytes]);
    decode(&lines.next_line().ok()??).ok()
}

/// Only root may drive an update.
fn root() -> bool {
    rustix::process::getuid().is_root()
}

#[test]
fn a_device_that_is_busy_is_waited_for() {
    let host = Host::new();
    let mut driver = Client::connect(&host.path).expect("luod listens");
    let mut service = Client::connect(&host.path).expect("luod listens");
    let id = Id::new("one").expect("an id");
    service.subscribe(&id).expect("subscribed");
    let until = Some(Instant::now() + SOON);
    let (deadline_ms, strict, force) = (Some(5_000), true, false);
    host.busy.store(8, Ordering::Relaxed);
    let prepare = Request::Prepare {
        deadline_ms,
        strict,
        force,
    };
    driver.say(&prepare).expect("said");
    if !root() {
        let answer = driver.read(until).expect("an answer");
        let refused = |error: &luo_client::Problem| error.code == Code::NotPermitted;
        assert!(
            matches!(&answer, Answer::Error { error, .. } if refused(error)),
            "{answer:?}"
        );
        return;
    }
    match service.event_within(SOON).expect("an event") {
        Event::Start { session, .. } => service.ready(&id, session).expect("ready"),
        other => panic!("{other:?}"),
    }
    for want in ["Preparing", "Client", "Prepared"] {
        let answer = format!("{:?}", driver.read(until).expect("an answer"));
        assert!(answer.starts_with(want), "{answer}");
    }
    driver.say(&Request::Freeze { hold: false }).expect("said");
    let answer = driver.read(until).expect("an answer");
    assert!(
        matches!(answer, Answer::Frozen { sessions: 1 }),
        "{answer:?}"
    );
    // The driver goes: all is undone, and the service hears of it.
    drop(driver);
    assert!(matches!(
        service.event_within(SOON),
        Ok(Event::Abort { .. })
    ));
    assert_eq!(host.busy.load(Ordering::Relaxed), 0);
}

#[test]
fn what_has_arrived_is_claimed_once() {
    let host = Host::new();
    let id = Id::new("arrived").expect("an id");
    let mut one = Client::connect(&host.path).expect("luod listens");
    let mut other = Client::connect(&host.path).expect("luod listens");
    let session = one.claim(&id).expect("an answer");
    assert!(session.is_some());
    assert!(other.claim(&id).is_err());
    // It dies; the next one may.
    drop((session, one));
    let until = Instant::now() + SOON;
    while !matches!(other.claim(&id), Ok(Some(_))) {
        assert!(Instant::now() < until, "it cannot be claimed again");
    }
    let none = Id::new("none").expect("an id");
    assert!(matches!(other.claim(&none), Ok(None)));
}
