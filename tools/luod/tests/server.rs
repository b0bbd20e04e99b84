// SPDX-License-Identifier: GPL-2.0
//! luod's event loop with real sockets and a device that is none: what a bad client does hurts
//! itself alone.

use luo_client::{decode, encode, receive, send, Answer, Client, Code, Event, Failure};
use luo_client::{Id, Lines, Outcome, Phase, Request, Verdict, Wish};
use luod::catalogue::{Catalogue, Entry};
use luod::config::Config;
use luod::device::{Device, DeviceError};
use luod::kept::{Boot, Kept};
use luod::machine::Key;
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

/// Sessions are empty files. The device is busy as often as it is told, and the record of a luod
/// before goes with a delay.
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
        Self::with(Vec::new())
    }

    /// With what a service manager has kept, by its names.
    fn with(stored: Vec<String>) -> Self {
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
            let stored = stored.into_iter();
            let stored = stored.map(|name| (name, device.session().expect("a session")));
            let stored = stored.collect();
            let server = Server::new(device, config, Boot::new("1"), listener, told, stored);
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
    // As fast as is allowed, until luod has had enough or the socket is full: answers are longer
    // than questions.
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
    let wish = Wish::default();
    let subscribe = Request::Subscribe { id, wish };
    send(&socket, &encode(&subscribe), None).ok()?;
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
    // Something has arrived, see `retrieve_record`.
    let (deadline_ms, strict, force) = (Some(5_000), true, true);
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

/// An update that a client drives.
fn prepare(driver: &mut Client) {
    let (deadline_ms, strict, force) = (Some(20_000), false, true);
    let prepare = Request::Prepare {
        deadline_ms,
        strict,
        force,
    };
    driver.say(&prepare).expect("said");
}

fn until(driver: &mut Client, wanted: impl Fn(&Answer) -> bool) -> Vec<Answer> {
    let mut heard = Vec::new();
    loop {
        let answer = driver.read(Some(Instant::now() + SOON)).expect("an answer");
        let last = wanted(&answer);
        heard.push(answer);
        if last {
            return heard;
        }
    }
}

#[test]
fn what_the_service_manager_brings_through_the_update_has_arrived() {
    let uid = rustix::process::getuid().as_raw();
    let id = Id::new("arrived").expect("an id");
    let key = Key {
        uid,
        id: id.clone(),
    };
    let before = Boot::new("2");
    let stored = vec![
        Kept::Outgoing(key).name(&before),
        Kept::Record { held: true }.name(&before),
    ];
    let host = Host::with(stored);
    let mut one = Client::connect(&host.path).expect("luod listens");
    one.say(&Request::Status).expect("said");
    let answers = until(&mut one, |answer| matches!(answer, Answer::Status { .. }));
    match answers.last() {
        Some(Answer::Status { status }) => {
            assert_eq!(status.phase, Phase::Operating);
            assert!(status.clients.is_empty(), "{status:?}");
            assert_eq!(status.arrived.len(), 1);
        }
        other => panic!("{other:?}"),
    }
    assert!(one.claim(&id).expect("an answer").is_some());
    if root() {
        // Nor does the next update find one under way.
        let mut driver = Client::connect(&host.path).expect("luod listens");
        prepare(&mut driver);
        until(&mut driver, |answer| {
            matches!(answer, Answer::Prepared { .. })
        });
    }
}

#[test]
fn what_comes_with_an_answer_is_seen_by_an_event_loop() {
    if !root() {
        return;
    }
    let host = Host::new();
    let mut driver = Client::connect(&host.path).expect("luod listens");
    let mut slow = Client::connect(&host.path).expect("luod listens");
    slow.subscribe(&Id::new("slow").expect("an id"))
        .expect("subscribed");
    prepare(&mut driver);
    let mut unseen = 0;
    for number in 0..30 {
        let id = Id::new(&format!("late{number}")).expect("an id");
        let mut late = Client::connect(&host.path).expect("luod listens");
        late.subscribe(&id).expect("subscribed");
        // luod has said START by now.
        let settled = Instant::now() + Duration::from_millis(20);
        std::thread::sleep(settled.saturating_duration_since(Instant::now()));
        let mut polled = [rustix::event::PollFd::new(
            &late,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::event::Timespec::default();
        let readable = rustix::event::poll(&mut polled, Some(&limit)).expect("polled") > 0;
        assert!(readable || late.pending(), "nobody would look");
        unseen += usize::from(!readable);
        assert!(matches!(
            late.event_within(Duration::ZERO),
            Ok(Event::Start { .. })
        ));
        assert!(!late.pending());
    }
    println!("{unseen} of 30 could not be seen by poll()");
}

#[test]
fn signals_end_no_wait() {
    let host = Host::new();
    let mut client = Client::connect(&host.path).expect("luod listens");
    // SAFETY: the handler does nothing.
    unsafe { signal_hook::low_level::register(libc::SIGUSR2, || ()) }.expect("registered");
    // SAFETY: it has no conditions.
    let me = unsafe { libc::pthread_self() };
    let over = Arc::new(AtomicU64::new(0));
    let stop = Arc::clone(&over);
    let noise = std::thread::spawn(move || {
        while stop.load(Ordering::Relaxed) == 0 {
            // SAFETY: that thread waits for this one to end.
            unsafe { libc::pthread_kill(me, libc::SIGUSR2) };
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let began = Instant::now();
    let limit = Duration::from_millis(300);
    let ended = client.event_within(limit);
    let took = began.elapsed();
    let id = Id::new("noise").expect("an id");
    let subscribed = client.subscribe(&id);
    over.store(1, Ordering::Relaxed);
    noise.join().expect("ended");
    assert!(matches!(ended, Err(Failure::Timeout)), "{ended:?}");
    assert!(took >= limit, "{took:?}");
    subscribed.expect("subscribed");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut client = Client::connect(&path).expect("it listens");
    let limit = Duration::from_millis(100);
    client.set_patience(limit).expect("a limit");
    let id = Id::new("x").expect("an id");
    assert!(matches!(client.subscribe(&id), Err(Failure::Timeout)));
    // The answer may come yet: it must not be taken for this one's.
    assert!(matches!(client.claim(&id), Err(Failure::Connection(_))));
    drop(listener);
}

#[test]
fn reasons_are_one_line_and_an_update_is_called_off_for_who_must_live() {
    if !root() {
        return;
    }
    let host = Host::new();
    let mut driver = Client::connect(&host.path).expect("luod listens");
    let mut other = Client::connect(&host.path).expect("luod listens");
    let mut service = Client::connect(&host.path).expect("luod listens");
    let id = Id::new("guest").expect("an id");
    let wish = Wish {
        required: true,
        checks: true,
        ..Wish::default()
    };
    service.subscribe_with(&id, wish).expect("subscribed");
    prepare(&mut driver);
    until(&mut driver, |answer| {
        matches!(answer, Answer::Preparing { .. })
    });
    // Another one cannot call it off.
    let (none, reason) = (None, "mine\n<0>forged \u{1b}[2J\u{202e}".repeat(99));
    let abort = |id, reason| Request::Abort { id, reason };
    other.say(&abort(none, "x".into())).expect("said");
    let answers = until(&mut other, |_| true);
    assert!(
        matches!(&answers[0], Answer::Error { error, .. } if error.code == Code::InUse),
        "{answers:?}"
    );
    let start = service.event_within(SOON).expect("an event");
    assert!(matches!(start, Event::Start { .. }), "{start:?}");
    service.decline(&id, &reason).expect("declined");
    let heard = until(&mut driver, |answer| {
        matches!(answer, Answer::Aborted { .. })
    });
    for answer in &heard {
        let (Answer::Client { reason, .. } | Answer::Aborted { reason }) = answer else {
            continue;
        };
        assert!(
            reason.contains("it cannot: mine\\n<0>forged \\u{1b}[2J\\u{202e}"),
            "{reason}"
        );
        assert!(reason.chars().count() < 400 && !reason.chars().any(char::is_control));
    }
    assert!(heard.len() >= 2, "{heard:?}");
    let left = |answer: &Answer| {
        matches!(
            answer,
            Answer::Client {
                outcome: Outcome::LeftOut,
                ..
            }
        )
    };
    assert!(heard.iter().any(left), "{heard:?}");
}

/// The client in C, built from its two files and a trial of it.
fn trial(folder: &std::path::Path) -> PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let client = here.join("../luo-client/c");
    let program = folder.join("trial");
    let done = std::process::Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1"])
        .args(["-fsanitize=undefined", "-fno-sanitize-recover=all", "-I"])
        .arg(&client)
        .arg(client.join("luo_client.c"))
        .arg(here.join("tests/trial.c"))
        .arg("-o")
        .arg(&program)
        .status()
        .expect("a compiler");
    assert!(done.success());
    program
}

#[test]
fn the_client_in_c_does_all_of_it_under_signals() {
    if !root() {
        return;
    }
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = std::process::Command::new(trial(folder.path()))
        .arg(&host.path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = child.stdout.take().expect("its output");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(out));
    let mut said = |wanted: &str| {
        let line = lines.next().expect("a line").expect("a line");
        assert_eq!(line, wanted);
    };
    said("subscribed");
    let mut driver = Client::connect(&host.path).expect("luod listens");
    driver
        .say(&Request::Check { deadline_ms: None })
        .expect("said");
    let heard = until(&mut driver, |answer| {
        matches!(answer, Answer::CheckDone { .. })
    });
    let runs = heard.iter().find_map(|answer| match answer {
        Answer::Checked {
            id,
            verdict,
            reason,
            files,
            wish,
            ..
        } if id.as_str() == "runs" => Some((*verdict, reason.clone(), files.clone(), *wish)),
        _ => None,
    });
    let (verdict, reason, files, wish) = runs.expect("it was asked");
    assert_eq!(verdict, Verdict::Unable);
    assert_eq!(reason, "no \"room\"\\nü");
    assert_eq!((files[0].count, files[0].bytes), (3, 1 << 33));
    assert!(wish.required && wish.stops && wish.order == 5);
    let done = heard.last();
    assert!(
        matches!(
            done,
            Some(Answer::CheckDone {
                able: 0,
                unable: 1,
                unknown: 1
            })
        ),
        "{done:?}"
    );
    prepare(&mut driver);
    until(&mut driver, |answer| {
        matches!(
            answer,
            Answer::Prepared {
                ready: 1,
                left_out: 1
            }
        )
    });
    driver
        .say(&Request::Stop { deadline_ms: None })
        .expect("said");
    until(&mut driver, |answer| {
        matches!(answer, Answer::Stopped { stopped: 1, .. })
    });
    said("stopped");
    drop(driver);
    said("done");
    assert!(child.wait().expect("it ends").success());
}
