// SPDX-License-Identifier: GPL-2.0
//! The event loop: one thread, sockets that never block, and the device between events.

use crate::config::Config;
use crate::connection::{Connection, End};
use crate::device::Device;
use crate::inherit::inherit;
use crate::kept::Boot;
use crate::loglimit::{LogLimit, Rate};
use crate::machine::{Conn, Level, Machine, Op, Output, Peer};
use crate::manager::Manager;
use crate::peer::{group_number, peer};
use crate::perform::{may_pass, perform};
use luo_client::{decode, encode, send, Answer, Code, Problem, Request};
use rustix::buffer::spare_capacity;
use rustix::event::{epoll, Timespec};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Whose event it is; connections have the numbers after these.
const LISTENER: u64 = 0;
const STOP: u64 = 1;
const RELOAD: u64 = 2;
const FIRST: u64 = 3;
/// Events taken at a time, connections accepted and operations done before others get their turn.
const TURN: usize = 64;
/// How long to wait before a device that is busy is tried again, and before more connections are
/// accepted when no descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);

/// Lines that a user's connections can have written by ending badly.
const BAD_ENDS: Rate = Rate {
    burst: 20,
    every_ms: 2_000,
};
/// Lines that a user's services can have written by what they do.
const DEEDS: Rate = Rate {
    burst: 400,
    every_ms: 200,
};

/// luod at work.
pub struct Server<D: Device> {
    device: D,
    machine: Machine<D::Session>,
    config: Config,
    group: Option<u32>,
    epoll: OwnedFd,
    listener: UnixListener,
    _stop: UnixStream,
    connections: BTreeMap<u64, (Connection<D::Session>, Peer)>,
    next: u64,
    /// Connections to be closed, with the reason.
    dead: Vec<(u64, End)>,
    /// Connections that were written to since it was last looked at which of them cannot take more.
    written: Vec<u64>,
    /// Operations that wait, with when they were asked for.
    operations: VecDeque<(Op, Instant)>,
    device_again: Option<Instant>,
    accept_again: Option<Instant>,
    epoch: Instant,
    bad_ends: LogLimit,
    deeds: LogLimit,
    reload: Option<Reload>,
    manager: Manager,
}

/// What says that the configuration is to be read again, and how that is done.
type Reload = (UnixStream, Box<dyn Fn() -> anyhow::Result<Config>>);

impl<D: Device> Server<D>
where
    D::Session: AsFd,
{
    /// Serves on a socket until something can be read from `stop`.
    ///
    /// # Errors
    ///
    /// The sockets cannot be watched.
    pub fn new(
        mut device: D,
        config: Config,
        boot: Boot,
        listener: UnixListener,
        stop: UnixStream,
        stored: Vec<(String, D::Session)>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        listener.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64;
        epoll::add(&epoll, &listener, data(LISTENER), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &stop, data(STOP), epoll::EventFlags::IN)?;
        let inherited = inherit(&mut device, &boot, stored);
        let mut machine = Machine::new(config.rules(), boot, 0);
        machine.restore(inherited);
        let group = group_number(&config.group);
        if group.is_none() {
            warn!("there is no group {}: only root may use luod", config.group);
        }
        Ok(Self {
            device,
            machine,
            config,
            group,
            epoll,
            listener,
            _stop: stop,
            connections: BTreeMap::new(),
            next: FIRST,
            dead: Vec::new(),
            written: Vec::new(),
            operations: VecDeque::new(),
            device_again: None,
            accept_again: None,
            epoch: Instant::now(),
            bad_ends: LogLimit::new(BAD_ENDS),
            deeds: LogLimit::new(DEEDS),
            reload: None,
            manager: Manager::new(Instant::now()),
        })
    }

    /// Reads the configuration again whenever something can be read from `told`.
    ///
    /// # Errors
    ///
    /// It cannot be watched.
    pub fn reload_on(
        &mut self,
        told: UnixStream,
        read: impl Fn() -> anyhow::Result<Config> + 'static,
    ) -> io::Result<()> {
        told.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(RELOAD);
        epoll::add(&self.epoll, &told, data, epoll::EventFlags::IN)?;
        self.reload = Some((told, Box::new(read)));
        Ok(())
    }

    fn reload(&mut self) {
        let Some((told, read)) = &mut self.reload else {
            return;
        };
        let mut bytes = [0; 64];
        while matches!(io::Read::read(told, &mut bytes), Ok(1..)) {}
        self.manager.reloading();
        match read() {
            Ok(mut config) => {
                if (&config.socket, &config.group) != (&self.config.socket, &self.config.group) {
                    warn!("another socket or group is used when luod is started anew");
                    config.socket.clone_from(&self.config.socket);
                    config.group.clone_from(&self.config.group);
                }
                self.machine.set_rules(config.rules());
                self.config = config;
                info!("the configuration is read");
            }
            Err(error) => warn!("the configuration stays as it was: {error:#}"),
        }
        self.manager.ready();
    }

    /// Runs until it is told to stop. What is preserved is then undone, unless somebody else is
    /// about to do the kexec.
    ///
    /// # Errors
    ///
    /// The event loop does not work.
    pub fn run(&mut self) -> io::Result<()> {
        self.settle();
        let mut events = Vec::with_capacity(TURN);
        loop {
            let wait = self.wait_for();
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.machine.tick(self.now());
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    STOP => {
                        self.finish();
                        return Ok(());
                    }
                    RELOAD => self.reload(),
                    token => self.serve(token, event.flags),
                }
                self.settle();
            }
            if self.accept_again.is_some_and(|at| at <= Instant::now()) {
                self.accept_again = None;
                self.watch_listener(true);
            }
            self.use_device();
            self.settle();
            let phase = self.machine.phase();
            self.manager.turn(Instant::now(), phase);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long nothing has to be done unless somebody says something.
    fn wait_for(&self) -> Option<Timespec> {
        let device = match (self.operations.is_empty(), self.device_again) {
            (true, _) => None,
            (false, None) => Some(Duration::ZERO),
            (false, Some(at)) => Some(at.saturating_duration_since(Instant::now())),
        };
        let accept = self.accept_again;
        let accept = accept.map(|at| at.saturating_duration_since(Instant::now()));
        let tick = self.machine.next_tick();
        // The clock of the machine has whole milliseconds: a little late is better than again and
        // again too early.
        let tick = tick.map(|at| Duration::from_millis(at.saturating_sub(self.now())));
        let tick = tick.map(|wait| wait + Duration::from_millis(1));
        let manager = self.manager.next();
        let manager = manager.map(|at| at.saturating_duration_since(Instant::now()));
        let least = [device, accept, tick, manager];
        let least = least.into_iter().flatten().min();
        least.and_then(|wait| Timespec::try_from(wait).ok())
    }

    fn watch_listener(&self, on: bool) {
        let flags = match on {
            true => epoll::EventFlags::IN,
            false => epoll::EventFlags::empty(),
        };
        let data = epoll::EventData::new_u64(LISTENER);
        if let Err(errno) = epoll::modify(&self.epoll, &self.listener, data, flags) {
            warn!("cannot watch the socket: {errno}");
        }
    }

    fn accept(&mut self) {
        for _ in 0..TURN {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if let Err(error) = self.welcome(socket) {
                        info!("a connection was not taken: {error}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // No descriptor, or no memory: it stays to be accepted, so the socket must not
                    // be looked at for a while.
                    warn!("cannot accept connections: {error}");
                    self.watch_listener(false);
                    self.accept_again = Some(Instant::now() + 20 * PAUSE);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, socket: UnixStream) -> io::Result<()> {
        let peer = peer(&socket, self.group)?;
        socket.set_nonblocking(true)?;
        let of_user = || {
            let all = self.connections.values();
            all.filter(|(_, other)| other.uid == peer.uid).count()
        };
        let full = self.connections.len() >= self.config.connections;
        let many = peer.uid != 0 && of_user() >= self.config.connections_per_user;
        if full || many {
            let message = "there are too many connections".to_owned();
            let code = Code::TooMany;
            say_last(&socket, Problem { code, message });
            return Ok(());
        }
        let token = self.next;
        self.next += 1;
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
        let connection = Connection::new(socket, peer.uid == 0, self.now());
        self.connections.insert(token, (connection, peer));
        self.machine.connected(Conn(token), peer);
        Ok(())
    }

    fn serve(&mut self, token: u64, flags: epoll::EventFlags) {
        let now = self.now();
        let Some((connection, _)) = self.connections.get_mut(&token) else {
            return;
        };
        if flags.contains(epoll::EventFlags::OUT) {
            self.written.push(token);
            if let Err(end) = connection.flush() {
                self.dead.push((token, end));
                return;
            }
        }
        let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if !flags.intersects(readable) {
            return;
        }
        match connection.read(now) {
            Ok(lines) => lines.iter().for_each(|line| self.take_line(token, line)),
            Err(end) => self.dead.push((token, end)),
        }
    }

    fn take_line(&mut self, token: u64, line: &[u8]) {
        match decode::<Request>(line) {
            Ok(request) => self.machine.request(Conn(token), request),
            Err(bad) if bad.problem.code == Code::BadLine => {
                self.dead.push((token, End::Bad(bad.problem)));
            }
            Err(bad) => {
                let answer = Answer::Error {
                    error: bad.problem,
                    id: bad.id,
                };
                self.queue(token, &answer, None);
            }
        }
    }

    fn queue(&mut self, token: u64, answer: &Answer, session: Option<D::Session>) {
        if let Some((connection, _)) = self.connections.get_mut(&token) {
            self.written.push(token);
            if let Err(end) = connection.queue(answer, session) {
                self.dead.push((token, end));
            }
        }
    }

    /// Does what the machine wants done, until it wants nothing but the device.
    fn settle(&mut self) {
        loop {
            let outputs = self.machine.take_output();
            let dead = std::mem::take(&mut self.dead);
            if outputs.is_empty() && dead.is_empty() {
                break;
            }
            for output in outputs {
                self.apply(output);
            }
            for (token, end) in dead {
                let Some((connection, peer)) = self.connections.remove(&token) else {
                    continue;
                };
                let _ = epoll::delete(&self.epoll, &connection);
                if let End::Bad(problem) = end {
                    let now = self.now();
                    if let Some(dropped) = self.bad_ends.allow(peer.uid, now) {
                        let (uid, pid) = (peer.uid, peer.pid);
                        let text = &problem.message;
                        info!("a connection of user {uid}, process {pid}, ends: {text}");
                        unsaid(uid, dropped);
                    }
                    say_last(&connection, problem);
                }
                self.machine.closed(Conn(token));
            }
        }
        self.watch_for_writing();
    }

    fn apply(&mut self, output: Output<D::Session>) {
        match output {
            Output::Send {
                to: Conn(token),
                answer,
                session,
            } => self.queue(token, &answer, session),
            Output::Device(op) => self.operations.push_back((op, Instant::now())),
            Output::Store { name, session } => self.device.store(&name, &session),
            Output::Unstore { name } => self.device.unstore(&name),
            Output::Note(catalogue) => self.device.note(&catalogue.to_bytes()),
            Output::Log { level, by, text } => {
                if let Some(uid) = by {
                    let Some(dropped) = self.deeds.allow(uid, self.now()) else {
                        return;
                    };
                    unsaid(uid, dropped);
                }
                match level {
                    Level::Info => info!("{text}"),
                    Level::Warning => warn!("{text}"),
                }
            }
        }
    }

    /// Watches for writing those that have something to be written.
    fn watch_for_writing(&mut self) {
        for token in std::mem::take(&mut self.written) {
            let Some((connection, _)) = self.connections.get_mut(&token) else {
                continue;
            };
            let wants = connection.wants_to_write();
            if wants != connection.watched_for_writing {
                let mut flags = epoll::EventFlags::IN;
                flags.set(epoll::EventFlags::OUT, wants);
                let data = epoll::EventData::new_u64(token);
                if epoll::modify(&self.epoll, &*connection, data, flags).is_ok() {
                    connection.watched_for_writing = wants;
                }
            }
        }
    }

    /// Does a turn of operations. One that finds the device busy is tried again, until its time is
    /// over.
    fn use_device(&mut self) {
        let now = Instant::now();
        if self.device_again.is_some_and(|at| at > now) {
            return;
        }
        self.device_again = None;
        for _ in 0..TURN {
            let Some((op, since)) = self.operations.pop_front() else {
                return;
            };
            let again = op.clone();
            let done = perform(&mut self.device, op);
            if may_pass(&done) && since.elapsed() < self.config.busy_limit() {
                self.operations.push_front((again, since));
                self.device_again = Some(now + PAUSE);
                return;
            }
            self.machine.tick(self.now());
            self.machine.device(done);
            self.settle();
        }
    }

    /// The end. What goes to the next kernel stays in the store when somebody else does the kexec;
    /// else all is undone.
    fn finish(&mut self) {
        self.manager.stopping();
        if self.machine.held() {
            info!("stopping; what is frozen stays with the service manager");
            return;
        }
        self.machine.stop();
        self.settle();
        info!("stopping");
    }
}

/// Says why a connection ends, if the socket takes it.
fn say_last(socket: impl AsFd, error: Problem) {
    let _ = send(socket, &encode(&Answer::Error { error, id: None }), None);
}

/// Says that some lines of a user are not in the log.
fn unsaid(uid: u32, dropped: u64) {
    if dropped > 0 {
        warn!("{dropped} lines that user {uid} has caused were left out");
    }
}
