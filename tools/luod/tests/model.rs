// SPDX-License-Identifier: GPL-2.0
//! Any order of clients, deaths, restarts, and updates, against a kernel of a few lines: what was ready is in the next kernel as it
//! was, nobody gets what is another's, nothing has two owners, and what nobody owns is not preserved.

use luo_client::{session_name, Answer, Id, Phase, Request};
use luod::device::{Device, DeviceError};
use luod::machine::{Conn, Machine, Op, Output, Peer, Rules, Unclaimed};
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

/// luod's view of the kernel, and of the service manager.
#[derive(Clone, Default)]
struct Fake {
    kernel: Rc<RefCell<Kernel>>,
    store: Rc<RefCell<BTreeMap<String, Rc<Session>>>>,
    note: Rc<RefCell<Option<Vec<u8>>>>,
    /// The service manager has a store.
    stores: bool,
}

impl Fake {
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
                self.note(&record);
                Ok(Some(record))
            }
            Err(DeviceError::Unknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn arrived(&mut self) -> Option<Vec<String>> {
        let kernel = self.kernel.borrow();
        kernel
            .lists
            .then(|| kernel.incoming.keys().cloned().collect())
    }

    fn note(&mut self, record: &[u8]) {
        self.note.replace(Some(record.to_vec()));
    }

    fn noted(&mut self) -> Option<Vec<u8>> {
        self.note.borrow().clone()
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
    inbox: VecDeque<(Answer, Option<Rc<Session>>)>,
    /// It has claimed on this connection.
    had: bool,
    /// It never answers.
    hangs: bool,
}

/// Two of user 0, one of user 7 with the same id, one of user 8 who may not.
const SERVICES: [(u32, &str); 4] = [(0, "a"), (0, "b"), (7, "a"), (8, "a")];
const OUTSIDER: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Die(usize),
    Hang(usize),
    Hear(usize),
    Claim(usize),
    Change(usize, u8),
    Prepare(bool),
    Freeze(bool),
    Abort,
    DriverDies,
    Work(usize),
    Time(u64),
    Busy(bool),
    Crash,
    Kexec,
}

struct World {
    fake: Fake,
    machine: Machine<Rc<Session>>,
    todo: VecDeque<Output<Rc<Session>>>,
    services: [Service; 4],
    driver: Option<Conn>,
    frozen_said: bool,
    now: u64,
    next: u64,
    /// What must be there after the kexec.
    promised: BTreeMap<usize, Vec<u8>>,
    updates: usize,
    claims: usize,
}

impl World {
    fn new(stores: bool, lists: bool) -> Self {
        let fake = Fake {
            stores,
            ..Fake::default()
        };
        fake.kernel.borrow_mut().lists = lists;
        let mut world = Self {
            fake,
            machine: Machine::new(RULES, 0),
            todo: VecDeque::new(),
            services: Default::default(),
            driver: None,
            frozen_said: false,
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
                if Some(to) == self.driver {
                    match answer {
                        Answer::Frozen { .. } => self.frozen_said = true,
                        Answer::Aborted { .. } => self.frozen_said = false,
                        _ => {}
                    }
                    return;
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
            Output::Log(..) => {}
        }
    }

    fn connect(&mut self, which: usize) {
        if self.services[which].conn.is_some() {
            return;
        }
        let conn = self.conn();
        let peer = Peer {
            uid: SERVICES[which].0,
            member: which != OUTSIDER,
        };
        self.services[which].conn = Some(conn);
        self.machine.connected(conn, peer);
        let id = Self::id(which);
        self.say(conn, Request::Subscribe { id });
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
                self.say(conn, Request::Ready { id });
            }
            Answer::Ok { .. } if service.session.is_some() => service.ready = true,
            Answer::Abort { .. } | Answer::Error { .. } if service.claimed.is_none() => {
                service.session = None;
                service.ready = false;
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
                assert_eq!(
                    promised.as_ref(),
                    Some(&content),
                    "not what was ready for service {which}"
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
        self.driver = None;
        self.frozen_said = false;
        self.machine = Machine::new(RULES, self.now);
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
        // What luod alone had in its hands, between two system calls or without a store, is gone; what the kernel still has is not.
        let finished = self.fake.kernel.borrow().finished.clone();
        self.promised
            .retain(|which, _| !finished.contains(&Self::name(*which)));
        let stored = self.fake.store.borrow().clone().into_iter().collect();
        self.machine.restore(stored);
        self.take();
    }

    fn kexec(&mut self) {
        // Only who was told that all is frozen jumps; one that lies to itself would lose its own things.
        if !self.frozen_said || self.machine.phase() != Phase::Frozen {
            return;
        }
        self.promised.clear();
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
        for which in 0..SERVICES.len() {
            if self.services[which].ready {
                assert!(self.promised.contains_key(&which), "{which} was ready");
            }
            self.services[which] = Service::default();
            self.services[which].memory = Some(vec![5]);
        }
        self.todo.clear();
        self.driver = None;
        self.frozen_said = false;
        let old = self.fake.store.take();
        drop(old);
        self.fake.note.replace(None);
        self.machine = Machine::new(RULES, self.now);
        self.take();
        self.updates += 1;
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
                    self.say(conn, Request::Claim { id });
                }
            }
            Step::Change(which, to) => {
                if self.services[which].session.is_none() && !self.services[which].had {
                    self.services[which].memory = Some(vec![to]);
                }
            }
            Step::Prepare(force) => {
                let conn = self.conn();
                let old = self.driver.take();
                if let Some(old) = old {
                    self.machine.closed(old);
                }
                self.frozen_said = false;
                self.driver = Some(conn);
                let peer = Peer {
                    uid: 0,
                    member: true,
                };
                self.machine.connected(conn, peer);
                self.say(
                    conn,
                    Request::Prepare {
                        deadline_ms: None,
                        strict: false,
                        force,
                    },
                );
            }
            Step::Freeze(hold) => {
                if let Some(conn) = self.driver {
                    self.say(conn, Request::Freeze { hold });
                }
            }
            Step::Abort => {
                if let Some(conn) = self.driver {
                    self.frozen_said = false;
                    let (id, reason) = (None, String::new());
                    self.say(conn, Request::Abort { id, reason });
                }
            }
            Step::DriverDies => {
                if let Some(conn) = self.driver.take() {
                    self.machine.closed(conn);
                    self.take();
                }
            }
            Step::Work(count) => (0..count).for_each(|_| self.work()),
            Step::Time(by) => {
                self.now += by;
                self.machine.tick(self.now);
                self.take();
            }
            Step::Busy(busy) => self.fake.kernel.borrow_mut().busy = busy,
            Step::Crash => self.crash(),
            Step::Kexec => self.kexec(),
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
        let root = Peer {
            uid: 0,
            member: true,
        };
        self.machine.connected(conn, root);
        for _ in 0..20 {
            let (id, reason) = (None, String::new());
            self.say(conn, Request::Abort { id, reason });
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
                !kernel.lists || known.contains(name),
                "nobody knows of {name}"
            );
        }
        let store = self.fake.store.borrow();
        assert!(
            store.keys().all(|name| name.starts_with("in/")),
            "the store keeps {:?}",
            store.keys()
        );
    }
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
        3 => any::<bool>().prop_map(Step::Prepare),
        3 => any::<bool>().prop_map(Step::Freeze),
        1 => Just(Step::Abort),
        1 => Just(Step::DriverDies),
        10 => (1usize..8).prop_map(Step::Work),
        2 => (1u64..1500).prop_map(Step::Time),
        1 => any::<bool>().prop_map(Step::Busy),
        1 => Just(Step::Crash),
        3 => Just(Step::Kexec),
    ];
    prop::collection::vec(step, 0..150)
}

/// A whole update in the right order, with other steps in between.
fn update(noise: Vec<Step>) -> Vec<Step> {
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
    with_noise(vec![Step::Work(50), Step::Prepare(true), Step::Work(50)]);
    with_noise((0..8).map(|which| Step::Hear(which % 4)).collect());
    with_noise(vec![Step::Work(50)]);
    with_noise((0..8).map(|which| Step::Hear(which % 4)).collect());
    with_noise(vec![Step::Time(1_001), Step::Work(50), Step::Freeze(false)]);
    with_noise(vec![Step::Work(50), Step::Kexec, Step::Work(50)]);
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
    fn any_order_is_good(stores: bool, lists: bool, steps in steps()) {
        let mut world = World::new(stores, lists);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
    }

    #[test]
    fn an_update_with_anything_in_between(stores: bool, lists: bool, noise in steps(), more in steps()) {
        let mut world = World::new(stores, lists);
        update(noise).into_iter().chain(update(more)).for_each(|step| world.step(step));
        world.settle();
    }
}

#[test]
fn without_trouble_everybody_gets_what_is_theirs() {
    let mut world = World::new(true, true);
    let twice = update(Vec::new()).into_iter().chain(update(Vec::new()));
    twice.for_each(|step| world.step(step));
    world.settle();
    assert_eq!(world.updates, 2);
    assert_eq!(world.claims, 2 * OUTSIDER);
}

#[test]
fn killed_after_each_thing_it_does() {
    for stores in [false, true] {
        let count = 250;
        let mut updates = 0;
        for last in 0..count {
            let mut world = World::new(stores, true);
            // One thing at a time, so that the kill can come after each.
            let slow = update(Vec::new()).into_iter().flat_map(|step| match step {
                Step::Work(most) => vec![Step::Work(1); most.min(12)],
                other => vec![other],
            });
            for (number, step) in slow.enumerate() {
                world.step(step);
                if number == last {
                    world.step(Step::Crash);
                }
            }
            update(Vec::new())
                .into_iter()
                .for_each(|step| world.step(step));
            world.settle();
            updates += world.updates;
        }
        assert!(updates >= count, "{updates} updates");
    }
}

#[test]
fn a_claim_that_ends_before_luod_has_looked_costs_nobody_anything() {
    let mut world = World::new(true, true);
    let after = |step: &Step| matches!(step, Step::Kexec);
    let steps = update(Vec::new());
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
