// SPDX-License-Identifier: GPL-2.0
//! Any order of clients, drivers, deaths, restarts, boots, and updates, with and without a service
//! manager that brings sessions along, against a kernel of a few lines: what was ready is in the
//! next kernel as it was, nobody gets what is another's, nothing has two owners, and what nobody
//! owns is not preserved.

use luo_client::{session_name, Answer, Code, Id, Part, Phase, Request, Wish};
use luod::device::{Device, DeviceError};
use luod::inherit::inherit;
use luod::kept::{Boot, Kept};
use luod::machine::{Conn, Machine, MayRequire, Op, Output, Peer, Rules, Unclaimed};
use luod::perform::{may_pass, perform};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

const RULES: Rules = Rules {
    subscriptions: 8,
    subscriptions_per_user: 2,
    ids_per_connection: 2,
    deadline: 1_000,
    stop_deadline: 700,
    strict: false,
    may_require: MayRequire::Members,
    driver_limit: 5_000,
    claim_limit: 3_000,
    unclaimed: Unclaimed::Keep,
};
const RECORD: &str = "luod-internal";

/// What the kernel knows of sessions.
#[derive(Default)]
struct Kernel {
    generation: u64,
    outgoing: BTreeMap<String, Weak<Session>>,
    /// Sessions that have arrived and are not finished, with what is in them.
    incoming: BTreeMap<String, (Vec<u8>, bool)>,
    finished: BTreeSet<String>,
    busy: bool,
    lists: bool,
}

struct Session {
    kernel: Rc<RefCell<Kernel>>,
    generation: u64,
    name: String,
    arrived: bool,
    content: RefCell<Vec<u8>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut kernel = self.kernel.borrow_mut();
        if kernel.generation != self.generation {
            return;
        }
        if self.arrived {
            kernel.incoming.remove(&self.name);
            kernel.finished.insert(self.name.clone());
        } else {
            kernel.outgoing.remove(&self.name);
        }
    }
}

/// A record, its name in the store, and its session.
type Unnoted = (Vec<u8>, String, Rc<Session>);

/// luod's view of the kernel, and of the service manager.
#[derive(Clone, Default)]
struct Fake {
    kernel: Rc<RefCell<Kernel>>,
    store: Rc<RefCell<BTreeMap<String, Rc<Session>>>>,
    note: Rc<RefCell<Option<Vec<u8>>>>,
    /// The record that could not be noted down, and its name in the store.
    unnoted: Rc<RefCell<Option<Unnoted>>>,
    /// Nothing can be written.
    full: Rc<RefCell<bool>>,
    /// The service manager has a store.
    stores: bool,
}

impl Fake {
    fn boot(&self) -> Boot {
        Boot::new(&format!("{:x}", self.kernel.borrow().generation))
    }

    /// A luod that begins here.
    fn machine(&mut self, now: u64) -> Machine<Rc<Session>> {
        let boot = self.boot();
        let stored: Vec<_> = self.store.borrow().clone().into_iter().collect();
        let inherited = inherit(self, &boot, stored);
        let mut machine = Machine::new(RULES, boot, now);
        machine.restore(inherited);
        machine
    }

    fn session(&self, name: &str, arrived: bool, content: Vec<u8>) -> Rc<Session> {
        Rc::new(Session {
            kernel: Rc::clone(&self.kernel),
            generation: self.kernel.borrow().generation,
            name: name.to_owned(),
            arrived,
            content: RefCell::new(content),
        })
    }
}

impl Device for Fake {
    type Session = Rc<Session>;

    fn create(&mut self, name: &str) -> Result<Rc<Session>, DeviceError> {
        if self.kernel.borrow().busy {
            return Err(DeviceError::Busy);
        }
        if self.kernel.borrow().outgoing.contains_key(name) {
            return Err(DeviceError::Exists);
        }
        let session = self.session(name, false, Vec::new());
        let weak = Rc::downgrade(&session);
        self.kernel
            .borrow_mut()
            .outgoing
            .insert(name.to_owned(), weak);
        Ok(session)
    }

    fn retrieve(&mut self, name: &str) -> Result<Rc<Session>, DeviceError> {
        let content = {
            let mut kernel = self.kernel.borrow_mut();
            if kernel.busy {
                return Err(DeviceError::Busy);
            }
            let Some((content, taken)) = kernel.incoming.get_mut(name) else {
                return Err(DeviceError::Unknown);
            };
            if std::mem::replace(taken, true) {
                return Err(DeviceError::Taken);
            }
            content.clone()
        };
        Ok(self.session(name, true, content))
    }

    fn preserve_record(&mut self, record: &[u8]) -> Result<Rc<Session>, DeviceError> {
        let session = self.create(RECORD)?;
        session.content.replace(record.to_vec());
        Ok(session)
    }

    fn retrieve_record(&mut self) -> Result<Option<Vec<u8>>, DeviceError> {
        match self.retrieve(RECORD) {
            Ok(session) => {
                let record = session.content.borrow().clone();
                let name = Kept::OldRecord.name(&self.boot());
                self.store(&name, &session);
                self.adopt_record(&name, session);
                Ok(Some(record))
            }
            Err(DeviceError::Unknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn adopt_record(&mut self, name: &str, session: Rc<Session>) {
        let record = session.content.borrow().clone();
        let old = self
            .unnoted
            .replace(Some((record.clone(), name.to_owned(), session)));
        drop(old);
        self.note(&record);
    }

    fn sides(&mut self) -> Option<Vec<(bool, String)>> {
        let kernel = self.kernel.borrow();
        let incoming = kernel.incoming.keys().map(|name| (true, name.clone()));
        let outgoing = kernel.outgoing.keys().map(|name| (false, name.clone()));
        kernel.lists.then(|| incoming.chain(outgoing).collect())
    }

    fn note(&mut self, record: &[u8]) {
        if *self.full.borrow() {
            return;
        }
        self.note.replace(Some(record.to_vec()));
        let unnoted = self.unnoted.take();
        if let Some((_, name, session)) = unnoted {
            self.unstore(&name);
            drop(session);
        }
    }

    fn noted(&mut self) -> Option<Vec<u8>> {
        let unnoted = self.unnoted.borrow();
        let unnoted = unnoted.as_ref().map(|(record, ..)| record.clone());
        unnoted.or_else(|| self.note.borrow().clone())
    }

    fn store(&mut self, name: &str, session: &Rc<Session>) {
        if self.stores {
            self.store
                .borrow_mut()
                .insert(name.to_owned(), Rc::clone(session));
        }
    }

    fn unstore(&mut self, name: &str) {
        let gone = self.store.borrow_mut().remove(name);
        drop(gone);
    }
}

/// A service: what it has in memory, and what it hears.
#[derive(Default)]
struct Service {
    conn: Option<Conn>,
    memory: Option<Vec<u8>>,
    session: Option<Rc<Session>>,
    claimed: Option<Rc<Session>>,
    ready: bool,
    /// It has said that it stands still.
    still: bool,
    /// It has claimed what may not be whole.
    unverified: bool,
    inbox: VecDeque<(Answer, Option<Rc<Session>>)>,
    /// It has claimed on this connection.
    had: bool,
    /// It never answers.
    hangs: bool,
}

/// Two of user 0, one of user 7 with the same id, one of user 8 who may not.
const SERVICES: [(u32, &str); 4] = [(0, "a"), (0, "b"), (7, "a"), (8, "a")];
const OUTSIDER: usize = 3;
/// This one runs until it is told to stop.
const RUNNER: usize = 1;

/// Who drives updates, or tries to.
#[derive(Default)]
struct Driver {
    conn: Option<Conn>,
    frozen_said: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Die(usize),
    Hang(usize),
    Hear(usize),
    Claim(usize),
    Change(usize, u8),
    Prepare(usize, bool),
    Check(usize),
    Stop(usize),
    Freeze(usize, bool),
    Abort(usize),
    CallOff(usize),
    DriverDies(usize),
    Work(usize),
    Time(u64),
    Busy(bool),
    Full(bool),
    Crash,
    /// The jump; the service manager may bring what it has, and the record may not come through
    /// whole.
    Kexec {
        systemd: bool,
        damage: bool,
    },
}

struct World {
    fake: Fake,
    machine: Machine<Rc<Session>>,
    todo: VecDeque<Output<Rc<Session>>>,
    services: [Service; 4],
    /// Service 0 must live through.
    required: bool,
    drivers: [Driver; 2],
    phase: Phase,
    now: u64,
    next: u64,
    /// What must be there after the kexec.
    promised: BTreeMap<usize, Vec<u8>>,
    updates: usize,
    claims: usize,
}

impl World {
    fn new(stores: bool, lists: bool, required: bool) -> Self {
        let mut fake = Fake {
            stores,
            ..Fake::default()
        };
        fake.kernel.borrow_mut().lists = lists;
        let mut world = Self {
            machine: fake.machine(0),
            fake,
            todo: VecDeque::new(),
            services: Default::default(),
            required,
            drivers: Default::default(),
            phase: Phase::Starting,
            now: 0,
            next: 1,
            promised: BTreeMap::new(),
            updates: 0,
            claims: 0,
        };
        for service in &mut world.services {
            service.memory = Some(vec![1]);
        }
        world.take();
        world
    }

    fn take(&mut self) {
        self.todo.extend(self.machine.take_output());
        let before = std::mem::replace(&mut self.phase, self.machine.phase());
        if self.phase == Phase::Freezing && before != Phase::Freezing {
            let root = peer(0, true);
            for client in self.machine.status(root).clients {
                assert!(
                    client.part == Part::Ready || !client.wish.required,
                    "{client:?} must live through"
                );
                assert_ne!(client.part, Part::Prepared, "{client:?} runs still");
            }
        }
    }

    /// What a driver does. Nobody but itself can call off what the other one drives.
    fn drive(&mut self, which: usize, request: Request) {
        let Some(conn) = self.drivers[which].conn else {
            return;
        };
        let any = matches!(request, Request::CallOff { .. });
        self.machine.request(conn, request);
        self.let_alone(1 - which, any);
        self.take();
    }

    /// What waits to be done does not call off what a driver drives.
    fn let_alone(&mut self, driver: usize, may: bool) {
        let conn = self.drivers[driver].conn;
        let outputs = self.machine.take_output();
        for output in &outputs {
            if let Output::Send {
                to,
                answer: Answer::Aborted { .. },
                ..
            } = output
            {
                assert!(may || Some(*to) != conn, "another's update is called off");
            }
        }
        self.todo.extend(outputs);
    }

    fn conn(&mut self) -> Conn {
        self.next += 1;
        Conn(self.next)
    }

    fn id(which: usize) -> Id {
        Id::new(SERVICES[which].1).expect("an id")
    }

    fn name(which: usize) -> String {
        session_name(SERVICES[which].0, &Self::id(which))
    }

    fn say(&mut self, conn: Conn, request: Request) {
        self.machine.request(conn, request);
        self.take();
    }

    /// Does the next thing that the machine wants done.
    fn work(&mut self) {
        let Some(output) = self.todo.pop_front() else {
            return;
        };
        match output {
            Output::Send {
                to,
                answer,
                session,
            } => {
                for driver in &mut self.drivers {
                    if driver.conn == Some(to) {
                        match answer {
                            Answer::Frozen { .. } => driver.frozen_said = true,
                            Answer::Aborted { .. } => driver.frozen_said = false,
                            _ => {}
                        }
                        return;
                    }
                }
                for service in &mut self.services {
                    if service.conn == Some(to) {
                        service.inbox.push_back((answer, session));
                        return;
                    }
                }
            }
            Output::Device(op) => {
                let again = op.clone();
                let done = perform(&mut self.fake, op);
                if may_pass(&done) && !matches!(again, Op::Boot) {
                    // The server waits for the device; for a while it does so here too.
                    self.todo.push_back(Output::Device(again));
                    return;
                }
                self.machine.device(done);
                self.take();
            }
            Output::Store { name, session } => self.fake.store(&name, &session),
            Output::Unstore { name } => self.fake.unstore(&name),
            Output::Note(catalogue) => self.fake.note(&catalogue.to_bytes()),
            Output::Log { text, .. } => assert!(!text.contains('\n')),
        }
    }

    fn connect(&mut self, which: usize) {
        if self.services[which].conn.is_some() {
            return;
        }
        let conn = self.conn();
        let peer = peer(SERVICES[which].0, which != OUTSIDER);
        self.services[which].conn = Some(conn);
        self.machine.connected(conn, peer);
        let id = Self::id(which);
        let wish = Wish {
            required: which == 0 && self.required,
            stops: which == RUNNER,
            checks: true,
            order: 0,
        };
        self.say(conn, Request::Subscribe { id, wish });
    }

    /// The process ends, with all it has.
    fn die(&mut self, which: usize) {
        let service = std::mem::take(&mut self.services[which]);
        self.services[which].memory = Some(vec![9]);
        let conn = service.conn;
        if let Some(session) = &service.claimed {
            // It had not said that it is finished: whoever comes next may claim it.
            self.promised
                .insert(which, session.content.borrow().clone());
        }
        drop(service);
        if let Some(conn) = conn {
            self.machine.closed(conn);
            self.take();
        }
    }

    /// A service hears one thing, and does what it should.
    fn hear(&mut self, which: usize) {
        let service = &mut self.services[which];
        if service.hangs {
            return;
        }
        let Some((answer, session)) = service.inbox.pop_front() else {
            return;
        };
        assert!(
            which != OUTSIDER || matches!(answer, Answer::Error { .. }),
            "an outsider was told {answer:?}"
        );
        let (Some(conn), id) = (service.conn, Self::id(which)) else {
            return;
        };
        match answer {
            Answer::StartPreservation { .. } => {
                let session = session.expect("a session comes with a start");
                assert_eq!(session.name, Self::name(which), "another one's session");
                let memory = service.memory.clone().unwrap_or_default();
                session.content.replace(memory);
                service.session = Some(session);
                service.still = false;
                self.say(conn, Request::Ready { id });
            }
            Answer::Ok { .. } if service.session.is_some() => {
                service.ready = which != RUNNER || service.still;
            }
            Answer::Stop { .. } => {
                let Some(session) = &service.session else {
                    // It took an error for the end of the update.
                    let (id, reason) = (Some(id), String::new());
                    self.say(conn, Request::Abort { id, reason });
                    return;
                };
                let memory = service.memory.clone().unwrap_or_default();
                session.content.replace(memory);
                service.still = true;
                self.say(conn, Request::Stopped { id });
            }
            Answer::Check { .. } => {
                let (able, reason, files, stop_ms) = (true, String::new(), Vec::new(), None);
                self.say(
                    conn,
                    Request::Can {
                        id,
                        able,
                        reason,
                        files,
                        stop_ms,
                    },
                );
            }
            Answer::Error { error, .. } if error.code == Code::Damaged => {
                let unverified = true;
                service.unverified = true;
                self.say(conn, Request::Claim { id, unverified });
            }
            Answer::Abort { .. } | Answer::Error { .. } if service.claimed.is_none() => {
                service.session = None;
                service.ready = false;
                service.still = false;
            }
            Answer::Claimed { .. } => {
                let session = session.expect("a session comes with a claim");
                assert_eq!(session.name, Self::name(which), "another one's session");
                let others = self.services.iter().enumerate();
                for (other, service) in others {
                    assert!(
                        other == which
                            || service
                                .claimed
                                .as_ref()
                                .is_none_or(|has| has.name != session.name),
                        "two have one session"
                    );
                }
                if self.fake.kernel.borrow().finished.contains(&session.name) {
                    // luod was killed after its owner finished it: it is given out empty.
                    return;
                }
                let content = session.content.borrow().clone();
                let promised = self.promised.remove(&which);
                // Who claims twice on a connection is given the same twice.
                let again = promised.is_none() && self.services[which].had;
                let promised = match again {
                    true => self.services[which].memory.clone(),
                    false => promised,
                };
                let unknown = self.services[which].unverified && promised.is_none();
                assert!(
                    unknown || promised.as_ref() == Some(&content),
                    "not what was ready for service {which}: {promised:?}, {content:?}"
                );
                self.claims += usize::from(!again);
                let service = &mut self.services[which];
                service.memory = Some(content);
                service.had = true;
                service.claimed = Some(session);
                // It takes its time; finished at the next word it hears.
                service
                    .inbox
                    .push_back((Answer::Preparing { clients: 0 }, None));
            }
            Answer::Preparing { .. } if service.claimed.is_some() => {
                if let Some(session) = service.claimed.take() {
                    let mut kernel = self.fake.kernel.borrow_mut();
                    kernel.incoming.remove(&session.name);
                    kernel.finished.insert(session.name.clone());
                }
                self.say(conn, Request::Finished { id });
            }
            _ => {}
        }
    }

    /// luod is killed and started again.
    fn crash(&mut self) {
        self.todo.clear();
        self.drivers = Default::default();
        // What luod has is gone, except what the service manager has too.
        let unnoted = self.fake.unnoted.take();
        drop(unnoted);
        self.machine = Machine::new(RULES, self.fake.boot(), self.now);
        if !self.fake.stores {
            let gone = self.fake.store.take();
            drop(gone);
        }
        // Clients see the end of the connection, and give up what they hold.
        for which in 0..SERVICES.len() {
            let service = &mut self.services[which];
            service.conn = None;
            service.inbox.clear();
            service.session = None;
            service.ready = false;
            service.still = false;
            service.unverified = false;
            service.had = false;
            if let Some(session) = service.claimed.take() {
                // It has all of it already; it cannot say so any more.
                drop(session);
                self.promised.remove(&which);
                let name = Self::name(which);
                let kernel = self.fake.kernel.borrow();
                if let Some((content, _)) = kernel.incoming.get(&name) {
                    self.promised.insert(which, content.clone());
                }
            }
        }
        // What luod alone had in its hands, between two system calls or without a store, is gone;
        // what the kernel still has is not.
        let finished = self.fake.kernel.borrow().finished.clone();
        self.promised
            .retain(|which, _| !finished.contains(&Self::name(*which)));
        self.machine = self.fake.machine(self.now);
        self.take();
    }

    fn kexec(&mut self, systemd: bool, damage: bool) {
        // Only who was told that all is frozen jumps; one that lies to itself would lose its own
        // things.
        let said = self.drivers.iter().any(|driver| driver.frozen_said);
        if !said || self.machine.phase() != Phase::Frozen {
            return;
        }
        self.promised.clear();
        let unnoted = self.fake.unnoted.take();
        let bring = systemd && self.machine.held();
        {
            let mut kernel = self.fake.kernel.borrow_mut();
            kernel.generation += 1;
            let outgoing = std::mem::take(&mut kernel.outgoing);
            kernel.incoming = outgoing
                .into_iter()
                .filter_map(|(name, session)| {
                    let content = session.upgrade()?.content.borrow().clone();
                    Some((name, (content, false)))
                })
                .collect();
            kernel.finished.clear();
            kernel.busy = false;
        }
        drop(unnoted);
        for service in &mut self.services {
            let off = |(answer, _): &(Answer, _)| matches!(answer, Answer::Abort { .. });
            if service.inbox.iter().any(off) {
                // It was told in time that it is not ready any more, and has not heard it.
                service.ready = false;
            }
        }
        let ready: Vec<usize> = (0..SERVICES.len())
            .filter(|which| self.services[*which].ready)
            .collect();
        for which in ready {
            let kernel = self.fake.kernel.borrow();
            let arrived = kernel.incoming.get(&Self::name(which));
            let arrived = arrived.map(|(content, _)| content.clone());
            let expected = self.services[which].session.as_ref();
            let expected = expected.map(|session| session.content.borrow().clone());
            assert_eq!(
                arrived, expected,
                "service {which} was ready, and is not there"
            );
        }
        // What was complete may also be of a process that is gone.
        let record = self.fake.kernel.borrow().incoming.get(RECORD).cloned();
        let record = record.expect("frozen without a record").0;
        let record = luod::catalogue::Catalogue::from_bytes(&record).expect("luod's own record");
        for entry in record.sessions.iter().filter(|entry| entry.complete) {
            let which = SERVICES
                .iter()
                .position(|(uid, id)| *uid == entry.uid && *id == entry.id.as_str())
                .expect("a service");
            let kernel = self.fake.kernel.borrow();
            let arrived = kernel.incoming.get(&Self::name(which));
            let (content, _) = arrived.expect("what is in the record arrives").clone();
            self.promised.insert(which, content);
        }
        if damage {
            let mut kernel = self.fake.kernel.borrow_mut();
            let record = kernel.incoming.get_mut(RECORD).expect("it is there");
            let last = record.0.len() / 2;
            record.0.truncate(last);
        }
        for which in 0..SERVICES.len() {
            if self.services[which].ready {
                assert!(self.promised.contains_key(&which), "{which} was ready");
            }
            self.services[which] = Service::default();
            self.services[which].memory = Some(vec![5]);
        }
        self.todo.clear();
        self.drivers = Default::default();
        let old = self.fake.store.take();
        if bring {
            // systemd retrieves the sessions of descriptors that it has, and gives them back under
            // the same names.
            for (name, session) in &old {
                if let Ok(session) = self.fake.retrieve(&session.name) {
                    self.fake.store.borrow_mut().insert(name.clone(), session);
                }
            }
        }
        drop(old);
        self.fake.note.replace(None);
        self.machine = self.fake.machine(self.now);
        self.take();
        self.updates += 1;
    }

    fn driver_dies(&mut self, which: usize) {
        if let Some(conn) = self.drivers[which].conn.take() {
            self.drivers[which].frozen_said = false;
            self.machine.closed(conn);
            self.let_alone(1 - which, false);
            self.take();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect(which) => self.connect(which),
            Step::Die(which) => self.die(which),
            Step::Hang(which) => self.services[which].hangs = true,
            Step::Hear(which) => self.hear(which),
            Step::Claim(which) => {
                if let Some(conn) = self.services[which].conn {
                    let id = Self::id(which);
                    let unverified = false;
                    self.say(conn, Request::Claim { id, unverified });
                }
            }
            Step::Change(which, to) => {
                let service = &self.services[which];
                let runs = which == RUNNER && !service.still;
                if (service.session.is_none() || runs) && !service.had {
                    self.services[which].memory = Some(vec![to]);
                }
            }
            Step::Prepare(which, force) => {
                self.driver_dies(which);
                let conn = self.conn();
                self.drivers[which].conn = Some(conn);
                self.machine.connected(conn, peer(0, true));
                let (deadline_ms, strict) = (None, false);
                let prepare = Request::Prepare {
                    deadline_ms,
                    strict,
                    force,
                };
                self.drive(which, prepare);
            }
            Step::Check(which) => self.drive(which, Request::Check { deadline_ms: None }),
            Step::Stop(which) => self.drive(which, Request::Stop { deadline_ms: None }),
            Step::Freeze(which, hold) => self.drive(which, Request::Freeze { hold }),
            Step::Abort(which) => {
                let (id, reason) = (None, String::new());
                self.drive(which, Request::Abort { id, reason });
            }
            Step::CallOff(which) => {
                let reason = String::new();
                self.drive(which, Request::CallOff { reason });
            }
            Step::DriverDies(which) => self.driver_dies(which),
            Step::Work(count) => (0..count).for_each(|_| self.work()),
            Step::Time(by) => {
                self.now += by;
                self.machine.tick(self.now);
                self.take();
            }
            Step::Busy(busy) => self.fake.kernel.borrow_mut().busy = busy,
            Step::Full(full) => *self.fake.full.borrow_mut() = full,
            Step::Crash => self.crash(),
            Step::Kexec { systemd, damage } => self.kexec(systemd, damage),
        }
        self.audit();
    }

    /// What holds at any time.
    fn audit(&self) {
        let kernel = self.fake.kernel.borrow();
        for (which, content) in &self.promised {
            let arrived = kernel.incoming.get(&Self::name(*which));
            assert_eq!(
                arrived.map(|(content, _)| content),
                Some(content),
                "what was promised to service {which} is gone"
            );
        }
        for name in kernel.outgoing.keys() {
            assert!(
                name == RECORD || (0..OUTSIDER).any(|which| &Self::name(which) == name),
                "{name} is nobody's"
            );
        }
    }

    /// Lets everything come to rest: the update is called off, everybody hears all.
    fn settle(&mut self) {
        self.fake.kernel.borrow_mut().busy = false;
        for which in 0..SERVICES.len() {
            if self.services[which].hangs {
                self.die(which);
            }
        }
        let conn = self.conn();
        let root = peer(0, true);
        self.machine.connected(conn, root);
        *self.fake.full.borrow_mut() = false;
        for _ in 0..20 {
            let reason = String::new();
            self.say(conn, Request::CallOff { reason });
            for _ in 0..200 {
                self.work();
            }
            for which in 0..SERVICES.len() {
                for _ in 0..10 {
                    self.hear(which);
                    self.work();
                }
            }
            self.step(Step::Time(2_000));
        }
        assert_eq!(self.machine.phase(), Phase::Operating);
        let kernel = self.fake.kernel.borrow();
        let left: Vec<&String> = kernel.outgoing.keys().collect();
        assert!(left.is_empty(), "nobody owns {left:?}");
        let root = self.machine.status(root);
        let known: BTreeSet<String> = root
            .arrived
            .iter()
            .map(|service| session_name(service.uid, &service.id))
            .collect();
        for name in kernel.incoming.keys() {
            assert!(
                !kernel.lists || name == RECORD || known.contains(name),
                "nobody knows of {name}"
            );
        }
        let store = self.fake.store.borrow();
        let boot = self.fake.boot();
        for name in store.keys() {
            let (kept, of) = Kept::of(name).expect("luod's own names");
            let outgoing = matches!(kept, Kept::Outgoing(_) | Kept::Record { .. });
            assert!(
                !outgoing || of != Some(boot.clone()),
                "the store keeps {name}"
            );
        }
    }
}

fn peer(uid: u32, member: bool) -> Peer {
    let pid = 1;
    Peer { uid, pid, member }
}

fn jump() -> impl Strategy<Value = Step> {
    let damage = prop::bool::weighted(0.1);
    (any::<bool>(), damage).prop_map(|(systemd, damage)| Step::Kexec { systemd, damage })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..SERVICES.len();
    let step = prop_oneof![
        4 => who.clone().prop_map(Step::Connect),
        1 => who.clone().prop_map(Step::Die),
        1 => (0..OUTSIDER).prop_map(Step::Hang),
        8 => who.clone().prop_map(Step::Hear),
        3 => who.clone().prop_map(Step::Claim),
        1 => (0..OUTSIDER, any::<u8>()).prop_map(|(who, to)| Step::Change(who, to)),
        3 => (0..2usize, any::<bool>()).prop_map(|(who, force)| Step::Prepare(who, force)),
        1 => (0..2usize).prop_map(Step::Check),
        2 => (0..2usize).prop_map(Step::Stop),
        3 => (0..2usize, any::<bool>()).prop_map(|(who, hold)| Step::Freeze(who, hold)),
        1 => (0..2usize).prop_map(Step::Abort),
        1 => (0..2usize).prop_map(Step::CallOff),
        1 => (0..2usize).prop_map(Step::DriverDies),
        10 => (1usize..8).prop_map(Step::Work),
        2 => (1u64..1500).prop_map(Step::Time),
        1 => any::<bool>().prop_map(Step::Busy),
        1 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::Crash),
        3 => jump(),
    ];
    prop::collection::vec(step, 0..150)
}

/// How an update goes.
#[derive(Clone, Debug)]
struct How {
    /// Its driver knows of both phases.
    two: bool,
    hold: bool,
    jump: Step,
}

fn how() -> impl Strategy<Value = How> {
    let how = (any::<bool>(), any::<bool>(), jump());
    how.prop_map(|(two, hold, jump)| How { two, hold, jump })
}

fn freeze(how: &How) -> Step {
    Step::Freeze(0, how.hold)
}

fn plainly(two: bool, systemd: bool) -> How {
    let damage = false;
    let hold = systemd;
    let jump = Step::Kexec { systemd, damage };
    How { two, hold, jump }
}

/// A whole update in the right order, with other steps in between.
fn update(how: &How, noise: Vec<Step>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut noise = noise.into_iter();
    let mut with_noise = |plain: Vec<Step>| {
        for step in plain {
            steps.extend(noise.by_ref().take(1));
            steps.push(step);
        }
    };
    with_noise(vec![Step::Work(50)]);
    with_noise((0..4).map(Step::Connect).collect());
    with_noise(vec![Step::Work(50), Step::Check(0), Step::Work(50)]);
    with_noise(vec![Step::Prepare(0, true), Step::Work(50)]);
    with_noise((0..12).map(|which| Step::Hear(which % 4)).collect());
    with_noise(vec![Step::Work(50)]);
    with_noise((0..8).map(|which| Step::Hear(which % 4)).collect());
    with_noise(vec![Step::Change(RUNNER, 77), Step::Time(1_001)]);
    let said = if how.two { Step::Stop(0) } else { freeze(how) };
    with_noise(vec![Step::Work(50), said, Step::Work(50)]);
    with_noise(vec![Step::Hear(RUNNER), Step::Work(50), Step::Hear(RUNNER)]);
    with_noise(vec![
        freeze(how),
        Step::Work(50),
        how.jump.clone(),
        Step::Work(50),
    ]);
    with_noise((0..4).map(Step::Connect).collect());
    with_noise((0..4).map(Step::Claim).collect());
    with_noise(vec![Step::Work(50)]);
    with_noise((0..16).map(|which| Step::Hear(which % 4)).collect());
    steps.extend(noise);
    steps
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn any_order_is_good(stores: bool, lists: bool, required: bool, steps in steps()) {
        let mut world = World::new(stores, lists, required);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
    }

    #[test]
    fn an_update_with_anything_in_between(
        (stores, lists, required) in any::<(bool, bool, bool)>(),
        (one, other) in (how(), how()),
        noise in steps(),
        more in steps(),
    ) {
        let mut world = World::new(stores, lists, required);
        let both = update(&one, noise).into_iter().chain(update(&other, more));
        both.for_each(|step| world.step(step));
        world.settle();
    }
}

#[test]
fn without_trouble_everybody_gets_what_is_theirs() {
    for number in 0..8 {
        let (two, systemd, stores) = (number & 1 != 0, number & 2 != 0, number & 4 != 0);
        let how = plainly(two, systemd);
        let mut world = World::new(stores, true, true);
        let twice = update(&how, Vec::new())
            .into_iter()
            .chain(update(&how, Vec::new()));
        twice.for_each(|step| world.step(step));
        world.settle();
        assert_eq!(world.updates, 2, "{how:?}");
        assert_eq!(world.claims, 2 * OUTSIDER, "{how:?}");
        // What ran until it was told to stop came with its last state.
        assert_eq!(world.services[RUNNER].memory, Some(vec![77]));
    }
}

#[test]
fn killed_after_each_thing_it_does() {
    for number in 0..8 {
        let (two, systemd, stores) = (number & 1 != 0, number & 2 != 0, number & 4 != 0);
        let how = plainly(two, systemd);
        let count = 290;
        let mut updates = 0;
        for last in 0..count {
            let mut world = World::new(stores, true, false);
            // One thing at a time, so that the kill can come after each.
            let slow = update(&how, Vec::new()).into_iter();
            let slow = slow.flat_map(|step| match step {
                Step::Work(most) => vec![Step::Work(1); most.min(14)],
                other => vec![other],
            });
            for (number, step) in slow.enumerate() {
                world.step(step);
                if number == last {
                    world.step(Step::Crash);
                }
            }
            let more = update(&how, Vec::new());
            more.into_iter().for_each(|step| world.step(step));
            world.settle();
            updates += world.updates;
        }
        assert!(updates >= count, "{updates} updates");
    }
}

#[test]
fn a_record_that_is_lost_makes_nobody_whole() {
    for (systemd, damage, full) in [
        (false, true, false),
        (true, true, false),
        (false, false, true),
    ] {
        let mut world = World::new(!full, true, false);
        let mut how = plainly(true, systemd);
        how.jump = Step::Kexec { systemd, damage };
        let steps = update(&how, Vec::new());
        let after = |step: &Step| matches!(step, Step::Kexec { .. });
        let jump = steps.iter().position(after).expect("an update jumps");
        let (before, _) = steps.split_at(jump);
        // One that does not get ready.
        world.step(Step::Connect(2));
        world.step(Step::Hang(2));
        before.iter().for_each(|step| world.step(step.clone()));
        world.step(Step::Full(full));
        world.step(how.jump);
        world.step(Step::Work(50));
        if full {
            // The record is in luod's memory only, and then nowhere.
            world.step(Step::Crash);
            world.step(Step::Work(50));
        }
        assert_eq!(world.updates, 1);
        let arrived = world.machine.status(peer(0, true)).arrived;
        assert!(arrived.len() >= 2, "{arrived:?}");
        for service in arrived {
            assert_eq!(service.part, Part::Unverified);
        }
        // Without a word they are given to nobody.
        for which in 0..OUTSIDER {
            let name = World::name(which);
            if !world.fake.kernel.borrow().incoming.contains_key(&name) {
                continue;
            }
            world.step(Step::Connect(which));
            world.step(Step::Work(5));
            world.services[which].inbox.clear();
            world.step(Step::Claim(which));
            world.step(Step::Work(50));
            let (answer, _) = world.services[which].inbox.pop_front().expect("an answer");
            assert!(
                matches!(&answer, Answer::Error { error, .. } if error.code == Code::Damaged),
                "{answer:?}"
            );
        }
        world.settle();
    }
}

#[test]
fn a_claim_that_ends_before_luod_has_looked_costs_nobody_anything() {
    let mut world = World::new(true, true, false);
    let after = |step: &Step| matches!(step, Step::Kexec { .. });
    let steps = update(&plainly(false, false), Vec::new());
    let jump = steps.iter().position(after).expect("an update jumps");
    let (before, _) = steps.split_at(jump + 1);
    before.iter().for_each(|step| world.step(step.clone()));
    let again = [Step::Connect(0), Step::Claim(0), Step::Work(50)];
    world.step(Step::Work(50));
    again.iter().for_each(|step| world.step(step.clone()));
    // Killed with one session claimed, and the next luod cannot have the device.
    for step in [Step::Busy(true), Step::Crash, Step::Work(50)] {
        world.step(step);
    }
    again.iter().for_each(|step| world.step(step.clone()));
    (0..8).for_each(|_| world.step(Step::Hear(0)));
    for step in [
        Step::Work(50),
        Step::Busy(false),
        Step::Time(2_000),
        Step::Work(50),
    ] {
        world.step(step);
    }
    assert!(!world.promised.contains_key(&0));
    for which in 1..OUTSIDER {
        assert!(world.promised.contains_key(&which));
    }
    world.settle();
}
