// SPDX-License-Identifier: GPL-2.0

//! Random operations over several updates, against lists of what should be there.

use std::rc::Rc;

use proptest::prelude::*;

use super::lab::{a_file, intact, lab, Call, FAILED, KINDS};
use super::world::{Incoming, Outgoing, World};
use crate::sys::driver::File;
use crate::sys::error::{Error, EBUSY, EEXIST, EINVAL, ENODEV, ENOENT};
use crate::sys::machine::with;

/// What somebody asks of the orchestrator. Numbers are cut to what exists.
#[derive(Clone, Debug)]
enum Op {
    Create(u8),
    /// A name that is none.
    CreateBad(bool),
    /// Preserve a new file of some kind in a session under a token.
    Preserve(usize, u8, usize),
    /// Preserve a file that there is already.
    Again(usize, u8, usize),
    /// Preserve while a module goes away.
    Going(usize, usize),
    Close(usize),
    /// Userspace closes its own descriptor of a file.
    Forget(usize),
    /// A reboot in which one freeze fails.
    Refused(usize),
    Update,
    Open(usize),
    OpenUnknown(u8),
    Retrieve(usize, usize),
    RetrieveUnknown(usize),
    Finish(usize),
    CloseIncoming(usize),
    /// Finish, or close, while a handler is not ready.
    Stubborn(usize, bool),
}

fn an_op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        6 => (0u8..9).prop_map(Op::Create),
        1 => any::<bool>().prop_map(Op::CreateBad),
        9 => (n(), 0u8..12, 0..KINDS).prop_map(|(s, t, k)| Op::Preserve(s, t, k)),
        3 => (n(), 0u8..12, n()).prop_map(|(s, t, f)| Op::Again(s, t, f)),
        1 => (n(), 0..KINDS).prop_map(|(s, k)| Op::Going(s, k)),
        2 => n().prop_map(Op::Close),
        1 => n().prop_map(Op::Forget),
        2 => n().prop_map(Op::Refused),
        2 => Just(Op::Update),
        6 => n().prop_map(Op::Open),
        1 => (0u8..9).prop_map(Op::OpenUnknown),
        8 => (n(), n()).prop_map(|(s, f)| Op::Retrieve(s, f)),
        1 => n().prop_map(Op::RetrieveUnknown),
        2 => n().prop_map(Op::Finish),
        3 => n().prop_map(Op::CloseIncoming),
        2 => (n(), any::<bool>()).prop_map(|(s, close)| Op::Stubborn(s, close)),
    ]
}

/// A session on the way out: its files' salts are in the order they were preserved.
struct Going {
    name: String,
    session: Outgoing,
    files: Vec<(u64, u64, usize)>,
}

struct Came {
    token: u64,
    salt: u64,
    kind: usize,
    given: bool,
}

/// A session that arrived.
struct Arrived {
    name: String,
    files: Vec<Came>,
    open: Option<Incoming>,
    finished: bool,
    gone: bool,
}

struct Model {
    world: Option<Rc<World>>,
    going: Vec<Going>,
    arrived: Vec<Arrived>,
    /// What userspace has open.
    files: Vec<File>,
    salt: u64,
    /// Frames of a kernel that has nothing but its own; and those that wait after an empty update.
    idle: u64,
    waiting: u64,
}

fn pages(salt: u64) -> u64 {
    1 << (salt % 3)
}

fn label(number: u8) -> String {
    // One with a byte that is shown escaped, and a prefix of another.
    ["a", "ab", "b/c", "\u{1}", "e", "ff", "g", "h", "i"][usize::from(number)].into()
}

impl Model {
    fn new() -> Self {
        let world = World::cold();
        world.luo.reboot().expect("nothing to freeze");
        let waiting = World::warm(world.kexec()).waiting();
        let world = World::cold();
        let idle = world.owned();
        Self {
            world: Some(Rc::new(world)),
            going: Vec::new(),
            arrived: Vec::new(),
            files: Vec::new(),
            salt: 0,
            idle,
            waiting,
        }
    }

    fn world(&self) -> Rc<World> {
        self.world.clone().expect("runs")
    }

    fn new_file(&mut self, kind: usize) -> File {
        self.salt += 1;
        let file = a_file(kind, self.salt).expect("memory");
        self.files.push(file.clone());
        file
    }

    fn is_going(&self, salt: u64) -> bool {
        let mut files = self.going.iter().flat_map(|s| &s.files);
        files.any(|f| f.1 == salt)
    }

    fn owner_of(&self, file: &File) -> bool {
        let salt = intact(file).expect("intact");
        self.is_going(salt)
            || self
                .arrived
                .iter()
                .any(|s| s.files.iter().any(|f| f.given && f.salt == salt))
    }

    fn preserve(&mut self, session: usize, token: u64, file: &File, kind: usize) {
        let Some(len) = self.going.len().checked_sub(1) else {
            return;
        };
        let at = session % (len + 1);
        let taken = self.going[at].files.iter().any(|f| f.0 == token);
        let expected = match (taken, self.owner_of(file)) {
            (true, _) => Err(EEXIST),
            (_, true) => Err(EBUSY),
            _ => Ok(()),
        };
        let result = self.world().preserve(&self.going[at].session, token, file);
        assert_eq!(result, expected);
        if result.is_ok() {
            let salt = intact(file).expect("intact");
            self.going[at].files.push((token, salt, kind));
        }
    }

    fn apply(&mut self, op: &Op) {
        let which = |n: usize, len: usize| n.checked_rem(len);
        match *op {
            Op::Create(n) => {
                let name = label(n);
                let taken = self.going.iter().any(|s| s.name == name);
                match self.world().create(&name) {
                    Ok(session) => {
                        assert!(!taken);
                        let files = Vec::new();
                        self.going.push(Going {
                            name,
                            session,
                            files,
                        });
                    }
                    Err(err) => assert!(taken && err == EEXIST, "{err:?}"),
                }
            }
            Op::CreateBad(empty) => {
                let name = if empty { [0; 64] } else { [b'x'; 64] };
                let world = self.world();
                let operating = world.luo.operate().expect("open");
                assert_eq!(world.luo.create(&operating, &name).err(), Some(EINVAL));
                let found = world.luo.retrieve_session(&operating, &name);
                assert_eq!(found.err(), Some(ENOENT));
            }
            Op::Preserve(session, token, kind) => {
                let file = self.new_file(kind);
                self.preserve(session, token.into(), &file, kind);
            }
            Op::Again(session, token, file) => {
                if let Some(at) = which(file, self.files.len()) {
                    let file = self.files[at].clone();
                    let kind = usize::from(lab().ops(1).can_preserve(&file));
                    self.preserve(session, token.into(), &file, kind);
                }
            }
            Op::Going(session, kind) => {
                let Some(at) = which(session, self.going.len()) else {
                    return;
                };
                let file = self.new_file(1);
                lab().modules[kind].going.set(true);
                // Handler 1 is of the one module, and needs an FLB of the other.
                let expected = [ENODEV, ENOENT][kind];
                let result = self.world().preserve(&self.going[at].session, 77, &file);
                assert_eq!(result, Err(expected));
                lab().modules[kind].going.set(false);
            }
            Op::Close(n) => {
                if let Some(at) = which(n, self.going.len()) {
                    lab().take_calls();
                    let closed = self.going.remove(at);
                    self.world().close(closed.session);
                    let calls = lab().take_calls();
                    let undone = calls.iter().filter(|call| call.0 == "unpreserve");
                    assert_eq!(undone.count(), closed.files.len());
                }
            }
            Op::Forget(n) => {
                if let Some(at) = which(n, self.files.len()) {
                    self.files.remove(at);
                }
            }
            Op::Refused(n) => self.refused(n),
            Op::Update => self.update(),
            Op::Open(n) => self.open(n),
            Op::OpenUnknown(n) => {
                let name = label(n);
                if !self.arrived.iter().any(|s| s.name == name) {
                    assert_eq!(self.world().open(&name).err(), Some(ENOENT));
                }
            }
            Op::Retrieve(session, file) => self.retrieve(session, file),
            Op::RetrieveUnknown(n) => {
                if let Some((at, session)) = self.opened(n) {
                    let result = self.world().retrieve(&session, 1000);
                    assert_eq!(result.err(), Some(ENOENT), "{}", self.arrived[at].name);
                }
            }
            Op::Finish(n) => {
                if let Some((at, session)) = self.opened(n) {
                    assert_eq!(self.world().finish(&session), Ok(()));
                    self.arrived[at].files.clear();
                    self.arrived[at].finished = true;
                }
            }
            Op::CloseIncoming(n) => {
                if let Some((at, session)) = self.opened(n) {
                    self.world().close_incoming(session);
                    let arrived = &mut self.arrived[at];
                    arrived.open = None;
                    arrived.files.clear();
                    (arrived.finished, arrived.gone) = (true, true);
                }
            }
            Op::Stubborn(n, close) => {
                let Some((at, session)) = self.opened(n) else {
                    return;
                };
                lab().can_finish.set(false);
                let nothing = self.arrived[at].files.is_empty();
                if close {
                    self.world().close_incoming(session);
                    self.arrived[at].open = None;
                    self.arrived[at].gone = nothing;
                    self.arrived[at].finished = nothing;
                } else {
                    self.arrived[at].finished |= nothing;
                    let expected = if nothing { Ok(()) } else { Err(EBUSY) };
                    assert_eq!(self.world().finish(&session), expected);
                }
                lab().can_finish.set(true);
            }
        }
    }

    fn opened(&self, n: usize) -> Option<(usize, Incoming)> {
        let open = |(at, s): (usize, &Arrived)| Some((at, s.open.clone()?));
        let mut all = self.arrived.iter().enumerate().filter_map(open);
        let count = all.clone().count();
        all.nth(n.checked_rem(count)?)
    }

    fn open(&mut self, n: usize) {
        let Some(at) = n.checked_rem(self.arrived.len()) else {
            return;
        };
        let world = self.world();
        let arrived = &mut self.arrived[at];
        let expected = match (arrived.gone, &arrived.open) {
            (true, _) => Some(ENOENT),
            (_, Some(_)) => Some(EINVAL),
            _ => None,
        };
        let result = world.open(&arrived.name);
        assert_eq!(result.as_ref().err().copied(), expected);
        if let Ok(session) = result {
            arrived.open = Some(session);
        }
    }

    fn retrieve(&mut self, session: usize, file: usize) {
        let Some((at, session)) = self.opened(session) else {
            return;
        };
        let world = self.world();
        let arrived = &mut self.arrived[at];
        let Some(which) = file.checked_rem(arrived.files.len()) else {
            return;
        };
        let came = &mut arrived.files[which];
        lab().take_calls();
        let file = world.retrieve(&session, came.token).expect("it came");
        let asked = lab().take_calls().len();
        assert_eq!(asked, usize::from(!came.given), "asked for once");
        assert_eq!(intact(&file), Some(came.salt));
        assert!(lab().ops(came.kind).can_preserve(&file));
        if !came.given {
            came.given = true;
            self.files.push(file);
        }
    }

    /// The n-th freeze fails: those before are undone in reverse, and everything works as before.
    fn refused(&mut self, n: usize) {
        let count: usize = self.going.iter().map(|s| s.files.len()).sum();
        let Some(n) = n.checked_rem(count) else {
            return;
        };
        lab().take_calls();
        lab().fail(Some(n as u64));
        assert_eq!(self.world().luo.reboot(), Err(FAILED));
        lab().fail(None);
        let calls = lab().take_calls();
        let (frozen, undone) = calls.split_at(n + 1);
        assert!(frozen.iter().all(|call| call.0 == "freeze"));
        let reverse = frozen[..n].iter().rev().map(|c| Call("unfreeze", c.1));
        assert_eq!(undone, reverse.collect::<Vec<_>>());
        assert!(self.world().last_error().contains("refused"));
    }

    fn update(&mut self) {
        lab().take_calls();
        assert_eq!(self.world().luo.reboot(), Ok(()));
        let calls = lab().take_calls().len();
        let count: usize = self.going.iter().map(|s| s.files.len()).sum();
        assert_eq!(calls, count);
        assert_eq!(self.world().luo.state(), "frozen");
        let number = self.world().luo.number;
        with(|m| m.take_log());
        let came = |s: &Going| Arrived {
            name: s.name.clone(),
            files: (s.files.iter())
                .map(|&(token, salt, kind)| Came {
                    token,
                    salt,
                    kind,
                    given: false,
                })
                .collect(),
            open: None,
            finished: false,
            gone: false,
        };
        let arrived = self.going.iter().map(came).collect();
        std::mem::forget(std::mem::take(&mut self.going));
        std::mem::forget(std::mem::replace(&mut self.arrived, arrived));
        std::mem::forget(std::mem::take(&mut self.files));
        let world = self.world.take().and_then(Rc::into_inner).expect("runs");
        self.world = Some(Rc::new(World::warm(world.kexec())));
        assert_eq!(self.world().luo.number, number + 1);
        assert!(with(|m| m.take_log()).is_empty());
    }

    /// What an operator sees.
    fn check_shown(&self) {
        let mut text = String::new();
        for s in &self.arrived {
            let state = match (s.finished, &s.open) {
                (true, _) => "finished",
                (_, Some(_)) => "open",
                _ => "waiting",
            };
            let given: Vec<u64> = (s.files.iter())
                .filter(|f| f.given)
                .map(|f| pages(f.salt) << 12)
                .collect();
            let (files, retrieved) = (s.files.len(), given.len());
            let (bytes, name) = (given.iter().sum::<u64>(), s.name.escape_default());
            text += &format!("incoming {state} {files} {retrieved} {bytes} {name}\n");
        }
        for s in &self.going {
            let bytes: u64 = s.files.iter().map(|f| pages(f.1) << 12).sum();
            let (files, name) = (s.files.len(), s.name.escape_default());
            text += &format!("outgoing open {files} 0 {bytes} {name}\n");
        }
        let text = text.replace("\\u{1}", "\\x01");
        assert_eq!(self.world().sessions(4096), text);
        assert_eq!(self.world().sessions(7), text);
        let unfinished = self.arrived.iter().any(|s| !s.finished);
        let state = if unfinished { "updated" } else { "operating" };
        assert_eq!(self.world().luo.state(), state);
        for file in &self.files {
            let outgoing = self.is_going(intact(file).expect("intact"));
            assert_eq!(self.world().luo.is_preserved(file), outgoing);
        }
    }

    /// Gives everything up, what arrived too; then nobody has anything.
    fn finish(mut self) {
        let world = self.world();
        for s in self.going.drain(..) {
            world.close(s.session);
        }
        for mut s in self.arrived.drain(..).filter(|s| !s.gone) {
            let open = s.open.take();
            let session = open.unwrap_or_else(|| world.open(&s.name).expect("there"));
            world.close_incoming(session);
        }
        for file in self.files.drain(..) {
            assert!(intact(&file).is_some());
            assert!(!world.luo.is_preserved(&file));
        }
        assert!(lab().is_idle());
        assert_eq!(self.world().owned(), self.idle, "memory is leaked");
        assert!(self.world().waiting() <= self.waiting, "memory is stranded");
        let (flb, name) = lab().flb(0);
        let left: Result<_, Error> = self.world().luo.get_incoming(flb, name);
        assert!(left.is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_sequence(ops in prop::collection::vec(an_op(), 1..60)) {
        let mut model = Model::new();
        for op in &ops {
            model.apply(op);
            model.check_shown();
        }
        model.update();
        model.check_shown();
        model.finish();
    }
}
