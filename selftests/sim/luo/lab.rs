// SPDX-License-Identifier: GPL-2.0

//! Fake drivers: two file handlers and two FLBs, whose every call is noted and may be told to fail.
//!
//! A file is a folio with something written into it. Handler 0 and handler 1 differ in what they
//! accept; both need FLB 0, and handler 1 needs FLB 1 too. What a driver writes down is a page of
//! its own, as drivers do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::block_chain::{claim_page, free_claimed, put_back};
use crate::kho::page::PreservedPage;
use crate::kho::state as handover;
use crate::luo::flb::Side;
use crate::luo::incoming::Outcome;
use crate::luo::text::Compatible;
use crate::luo::Luo;
use crate::sys::alloc::{Arc, GFP_KERNEL};
use crate::sys::driver::{FakeFile, File, Flb, FlbOps, Handler, Module, Object, Ops};
use crate::sys::error::{Error, Result, EINVAL, EJUKEBOX};
use crate::sys::{pages, Frame};

/// What a call says that was told to fail.
pub(crate) const FAILED: Error = Error(5);

/// Begins a record of a file, and one of an FLB.
const FILE_MAGIC: u64 = 0x66_69_6c_65_21;
const FLB_MAGIC: u64 = 0x66_6c_62_21;

/// Kinds of files.
pub(crate) const KINDS: usize = 2;

/// A call of a driver: which, and for which file or FLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call(pub(crate) &'static str, pub(crate) u64);

/// All drivers of a thread's kernel.
pub(crate) struct Lab {
    handlers: [FakeHandler; KINDS],
    flbs: [FakeFlb; KINDS],
    pub(crate) modules: [Module; KINDS],
    /// Whether files may finish.
    pub(crate) can_finish: Cell<bool>,
    /// Of the calls that may fail, the one that does.
    fails: Cell<Option<u64>>,
    fallible: Cell<u64>,
    calls: RefCell<Vec<Call>>,
    /// What is preserved, by address.
    records: RefCell<BTreeMap<u64, PreservedPage>>,
    /// FLBs that arrived and are live.
    live: Cell<u32>,
}

struct FakeHandler(usize);

struct FakeFlb(usize, (RefCell<Side>, RefCell<Side>));

thread_local! {
    static LAB: Cell<Option<&'static Lab>> = const { Cell::new(None) };
}

/// This thread's.
pub(crate) fn lab() -> &'static Lab {
    if LAB.get().is_none() {
        let sides = || (RefCell::new(Side::IDLE), RefCell::new(Side::IDLE));
        LAB.set(Some(Box::leak(Box::new(Lab {
            handlers: [FakeHandler(0), FakeHandler(1)],
            flbs: [FakeFlb(0, sides()), FakeFlb(1, sides())],
            modules: Default::default(),
            can_finish: Cell::new(true),
            fails: Cell::new(None),
            fallible: Cell::new(0),
            calls: RefCell::default(),
            records: RefCell::default(),
            live: Cell::new(0),
        }))));
    }
    LAB.get().expect("made")
}

impl Lab {
    /// The kernel was replaced: its drivers know nothing of the old one's.
    pub(crate) fn forget(&self) {
        std::mem::forget(self.records.take());
        self.live.set(0);
        for (flb, module) in self.flbs.iter().zip(&self.modules) {
            flb.1 .0.replace(Side::IDLE);
            flb.1 .1.replace(Side::IDLE);
            module.users.set(0);
            module.going.set(false);
        }
        self.can_finish.set(true);
        self.fails.set(None);
        self.take_calls();
    }

    pub(crate) fn register(&'static self, luo: &Luo) -> Result {
        for kind in 0..KINDS {
            let (handler, ops) = (&self.handlers[kind], self.ops(kind));
            luo.drivers.lock().register(ops, handler.compatible())?;
            for flb in &self.flbs[..=kind] {
                let name = flb.compatible();
                luo.drivers.lock().register_flb(ops, Flb::new(flb), name)?;
            }
        }
        Ok(())
    }

    pub(crate) fn ops(&'static self, kind: usize) -> Ops {
        Ops::new(&self.handlers[kind])
    }

    pub(crate) fn flb(&'static self, which: usize) -> (Flb, Compatible) {
        let flb = &self.flbs[which];
        (Flb::new(flb), flb.compatible())
    }

    /// Has the n-th call from now on fail, of those that may.
    pub(crate) fn fail(&self, nth: Option<u64>) {
        self.fallible.set(0);
        self.fails.set(nth);
    }

    /// Calls since this was asked last.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        self.calls.take()
    }

    /// Whether no driver holds anything, nor a module's reference.
    pub(crate) fn is_idle(&self) -> bool {
        let users = self.modules.iter().map(|module| module.users.get());
        self.records.borrow().is_empty() && self.live.get() == 0 && users.sum::<u32>() == 0
    }

    /// FLBs that arrived and whose object is there.
    pub(crate) fn live(&self) -> u64 {
        self.live.get().into()
    }

    fn called(&self, what: &'static str, key: u64) {
        self.calls.borrow_mut().push(Call(what, key));
    }

    fn may_fail(&self, what: &'static str, key: u64) -> Result {
        self.called(what, key);
        let number = self.fallible.replace(self.fallible.get() + 1);
        match self.fails.get() == Some(number) {
            true => Err(FAILED),
            false => Ok(()),
        }
    }
}

pub(crate) fn text(of: &str) -> Compatible {
    Compatible::of(of.as_bytes()).expect("a name")
}

/// What is in a file.
#[derive(Debug)]
pub(crate) struct Body {
    kind: usize,
    at: Pfn,
    order: Order,
    salt: u64,
    /// Whether the memory is this kernel's yet.
    owned: Cell<bool>,
}

impl Body {
    fn frames(&self) -> PageRange {
        PageRange::new(self.at, self.order.pages())
    }

    fn words(&self) -> impl Iterator<Item = (Frame, u64)> + '_ {
        let range = self.frames().start.raw()..self.frames().end.raw();
        range.map(|pfn| {
            let frame = Frame::at(Pfn::new(pfn).phys()).expect("in memory");
            (frame, pfn.rotate_left(40) ^ self.salt)
        })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.owned.get() {
            pages::free_folio(self.frames());
        }
    }
}

/// A file of some kind, one to four pages long by its salt; `None` without memory.
pub(crate) fn a_file(kind: usize, salt: u64) -> Option<File> {
    let order = Order::new((salt % 3) as u32).expect("small");
    let at = pages::alloc_folio(order)?;
    let body = Body {
        kind,
        at,
        order,
        salt,
        owned: Cell::new(true),
    };
    for (frame, word) in body.words() {
        frame.set_word(510, word);
        frame.set_word(511, !word);
    }
    file_of(body).ok()
}

fn file_of(body: Body) -> Result<File> {
    let file = FakeFile {
        id: body.at.raw(),
        bytes: body.order.pages() << 12,
        inner: Box::new(body),
    };
    Ok(Arc::new(file, GFP_KERNEL)?)
}

fn body_of(file: &File) -> &Body {
    file.inner.downcast_ref().expect("a file of the lab")
}

/// The first frame of a file.
pub(crate) fn place(file: &File) -> PhysAddr {
    body_of(file).at.phys()
}

/// The salt of a file whose contents are what they were.
pub(crate) fn intact(file: &File) -> Option<u64> {
    let body = body_of(file);
    let whole = body
        .words()
        .all(|(frame, word)| frame.word(510) == word && frame.word(511) == !word);
    whole.then_some(body.salt)
}

/// Claims a driver's page that begins with `magic`.
fn claim_record(at: u64, magic: u64) -> Result<Frame> {
    let record = claim_page(PhysAddr::new(at)).ok_or(EINVAL)?;
    match record.word(0) == magic {
        true => Ok(record),
        false => {
            put_back(record);
            Err(EINVAL)
        }
    }
}

fn content(record: Frame) -> Option<(Pfn, Order)> {
    Some((
        Pfn::new(record.word(1)),
        Order::new(u32::try_from(record.word(2)).ok()?)?,
    ))
}

/// Claims what a file's record names, and the record.
fn claim(data: u64) -> Result<(Body, Frame)> {
    let record = claim_record(data & !1, FILE_MAGIC)?;
    let claim = |&(at, order): &(Pfn, Order)| {
        handover::incoming(|i| i.claim_run(at, order, 1).then_some(())).is_some()
    };
    let Some((at, order)) = content(record).filter(claim) else {
        put_back(record);
        return Err(EINVAL);
    };
    let body = Body {
        kind: record.word(4) as usize,
        at,
        order,
        salt: record.word(3),
        owned: Cell::new(false),
    };
    Ok((body, record))
}

/// Makes final what [`claim`] did.
fn take(body: &Body, record: Frame) {
    handover::incoming(|i| {
        i.finish_run(body.at, body.order, 1);
        Some(())
    });
    pages::give_out_folio(body.at, body.order);
    body.owned.set(true);
    free_claimed(record);
}

impl Handler for FakeHandler {
    fn compatible(&self) -> Compatible {
        text(["fake-a-v1", "fake-b-v1"][self.0])
    }

    fn module(&self) -> &'static Module {
        &lab().modules[self.0]
    }

    fn can_preserve(&self, file: &File) -> bool {
        let body = file.inner.downcast_ref::<Body>();
        body.is_some_and(|body| body.kind == self.0)
    }

    fn preserve(&self, file: &File) -> Result<(u64, u64)> {
        lab().may_fail("preserve", file.id)?;
        let body = body_of(file);
        let record = PreservedPage::new()?;
        handover::outgoing(|out| out.preserve_block(body.at, body.order))?;
        let (order, kind) = (body.order.raw().into(), body.kind as u64);
        let words = [FILE_MAGIC, body.at.raw(), order, body.salt, kind];
        for (i, word) in words.into_iter().enumerate() {
            record.frame().set_word(i, word);
        }
        let at = record.frame().phys().raw();
        lab().records.borrow_mut().insert(at, record);
        Ok((at, !at))
    }

    fn unpreserve(&self, file: &File, data: u64, private: u64) {
        lab().called("unpreserve", file.id);
        let at = data & !1;
        assert_eq!(private, !at);
        let record = lab().records.borrow_mut().remove(&at).expect("preserved");
        assert_eq!(record.frame().word(5), 0, "unpreserved while frozen");
        let body = body_of(file);
        let undone = handover::outgoing(|out| Ok(out.unpreserve_block(body.at, body.order)));
        assert_eq!(undone, Ok(true));
    }

    fn freeze(&self, file: &File, data: u64) -> Result<u64> {
        lab().may_fail("freeze", file.id)?;
        let records = lab().records.borrow();
        let record = records.get(&(data & !1)).expect("preserved").frame();
        assert_eq!(record.word(5), 0, "frozen twice");
        record.set_word(5, 1);
        // What a driver returns here is what is handed over.
        Ok(data | self.0 as u64)
    }

    fn unfreeze(&self, file: &File, data: u64) {
        lab().called("unfreeze", file.id);
        let records = lab().records.borrow();
        let record = records.get(&(data & !1)).expect("preserved").frame();
        assert_eq!(record.word(5), 1, "unfrozen, but not frozen");
        record.set_word(5, 0);
    }

    fn retrieve(&self, data: u64) -> Result<File> {
        lab().may_fail("retrieve", data)?;
        let (body, record) = claim(data)?;
        let (at, order) = (body.at, body.order);
        let Ok(file) = file_of(body) else {
            // As a driver says that nothing was consumed, for want of memory.
            handover::incoming(|i| i.unclaim_run(at, order, 1).ok());
            put_back(record);
            return Err(EJUKEBOX);
        };
        take(body_of(&file), record);
        Ok(file)
    }

    fn can_finish(&self, data: u64, _: &Outcome) -> bool {
        lab().may_fail("can_finish", data).is_ok() && lab().can_finish.get()
    }

    fn finish(&self, data: u64, outcome: &Outcome) {
        lab().called("finish", data);
        if matches!(outcome, Outcome::NotRetrieved) {
            if let Ok((body, record)) = claim(data) {
                take(&body, record);
            }
        }
    }
}

impl FlbOps for FakeFlb {
    fn compatible(&self) -> Compatible {
        text(["flb-shared", "flb-own"][self.0])
    }

    fn module(&self) -> &'static Module {
        &lab().modules[self.0]
    }

    fn sides(&self) -> &(RefCell<Side>, RefCell<Side>) {
        &self.1
    }

    fn preserve(&self) -> Result<(u64, Object)> {
        lab().may_fail("flb preserve", self.0 as u64)?;
        let record = PreservedPage::new()?;
        record.frame().set_word(0, FLB_MAGIC);
        record.frame().set_word(1, self.0 as u64);
        let at = record.frame().phys().raw();
        lab().records.borrow_mut().insert(at, record);
        Ok((at, Object(at)))
    }

    fn unpreserve(&self, data: u64, object: Object) {
        lab().called("flb unpreserve", self.0 as u64);
        assert_eq!(object, Object(data));
        let gone = lab().records.borrow_mut().remove(&data);
        assert!(gone.is_some(), "an FLB is unpreserved twice");
    }

    fn retrieve(&self, data: u64) -> Result<Object> {
        lab().may_fail("flb retrieve", self.0 as u64)?;
        let record = claim_record(data, FLB_MAGIC)?;
        if record.word(1) != self.0 as u64 {
            put_back(record);
            return Err(EINVAL);
        }
        let pfn = record.phys().pfn();
        handover::incoming(|i| {
            i.finish_run(pfn, Order::ZERO, 1);
            Some(())
        });
        pages::give_out_folio(pfn, Order::ZERO);
        lab().live.set(lab().live.get() + 1);
        Ok(Object(data))
    }

    fn finish(&self, object: Object) {
        lab().called("flb finish", self.0 as u64);
        lab().live.set(lab().live.get() - 1);
        pages::free_folio(PageRange::new(PhysAddr::new(object.0).pfn(), 1));
    }
}
