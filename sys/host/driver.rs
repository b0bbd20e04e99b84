// SPDX-License-Identifier: GPL-2.0

//! Drivers of the simulated kernel: what a test implements, behind the calls that the real kernel's
//! C drivers are behind.

use std::cell::{Cell, RefCell};

use crate::sys::contract::{Outcome, Side};
use crate::sys::text::Compatible;

pub(crate) use super::file::*;
use crate::sys::error::{Result, EPROTONOSUPPORT};

/// A driver's module: how many use it, and whether it is on its way out.
#[derive(Default)]
pub(crate) struct Module {
    pub(crate) users: Cell<u32>,
    pub(crate) going: Cell<bool>,
}

/// A reference to a module, given up when dropped.
pub(crate) struct Owner(&'static Module);

impl Owner {
    fn get(module: &'static Module) -> Option<Self> {
        if module.going.get() {
            return None;
        }
        module.users.set(module.users.get() + 1);
        Some(Self(module))
    }

    /// Takes a reference of its own, until `Flb::unkeep_owner`.
    pub(crate) fn keep(&self) {
        self.0.users.set(self.0.users.get() + 1);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        put(self.0);
    }
}

fn put(module: &Module) {
    let users = module.users.get().checked_sub(1);
    module.users.set(users.expect("a module is put too often"));
}

/// The values that a handler keeps for an outgoing file.
pub(crate) struct Saved {
    pub(crate) data: u64,
    private: u64,
}

/// A file handler, as a test writes one. (What each operation may do: include/linux/liveupdate.h.)
pub(crate) trait Handler {
    fn compatible(&self) -> Compatible;
    fn module(&self) -> &'static Module;
    fn can_preserve(&self, file: &File) -> bool;
    fn preserve(&self, file: &File) -> Result<(u64, u64)>;
    fn unpreserve(&self, file: &File, data: u64, private: u64);
    fn freeze(&self, file: &File, data: u64) -> Result<u64>;
    fn unfreeze(&self, file: &File, data: u64);
    /// Makes what another version of the same format kept into what this one keeps.
    fn convert(&self, _file: &File, _data: u64, _private: u64, _from: u32) -> Result<(u64, u64)> {
        Err(EPROTONOSUPPORT)
    }
    /// Those of whom this is the same keep the same of a file, and convert from each other.
    fn keeps(&self) -> u64 {
        1
    }
    fn retrieve(&self, data: u64) -> Result<File>;
    fn can_finish(&self, data: u64, outcome: &Outcome) -> bool;
    fn finish(&self, data: u64, outcome: &Outcome);
}

/// A file handler's operations.
#[derive(Clone, Copy)]
pub(crate) struct Ops(&'static dyn Handler);

impl PartialEq for Ops {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.0, other.0)
    }
}

impl Ops {
    pub(crate) fn new(handler: &'static dyn Handler) -> Self {
        Self(handler)
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::get(self.0.module())
    }

    pub(crate) fn can_preserve(&self, file: &File) -> bool {
        self.0.can_preserve(file)
    }

    pub(crate) fn id(&self, file: &File) -> u64 {
        file.id
    }

    pub(crate) fn preserve(&self, file: &File) -> Result<Saved> {
        let (data, private) = self.0.preserve(file)?;
        Ok(Saved { data, private })
    }

    pub(crate) fn unpreserve(&self, file: &File, saved: &Saved) {
        self.0.unpreserve(file, saved.data, saved.private);
    }

    pub(crate) fn freeze(&self, file: &File, saved: &mut Saved) -> Result {
        saved.data = self.0.freeze(file, saved.data)?;
        Ok(())
    }

    pub(crate) fn unfreeze(&self, file: &File, saved: &Saved) {
        self.0.unfreeze(file, saved.data);
    }

    pub(crate) fn converts(&self, by: &Ops) -> bool {
        self.0.keeps() == by.0.keeps()
    }

    pub(crate) fn convert(&self, file: &File, saved: &mut Saved, by: &Ops, from: u32) -> Result {
        if !self.converts(by) {
            return Err(EPROTONOSUPPORT);
        }
        let (data, private) = self.0.convert(file, saved.data, saved.private, from)?;
        *saved = Saved { data, private };
        Ok(())
    }

    pub(crate) fn retrieve(&self, data: u64) -> Result<File> {
        self.0.retrieve(data)
    }

    pub(crate) fn can_finish(&self, data: u64, outcome: &Outcome) -> bool {
        self.0.can_finish(data, outcome)
    }

    pub(crate) fn finish(&self, data: u64, outcome: &Outcome) {
        self.0.finish(data, outcome);
    }
}

/// An FLB, as a test writes one.
pub(crate) trait FlbOps {
    fn compatible(&self) -> Compatible;
    fn module(&self) -> &'static Module;
    /// Its two sides: on the way out, and in.
    fn sides(&self) -> &(RefCell<Side>, RefCell<Side>);
    fn preserve(&self) -> Result<(u64, Object)>;
    fn unpreserve(&self, data: u64, object: Object);
    fn retrieve(&self, data: u64) -> Result<Object>;
    fn finish(&self, object: Object);
}

/// An FLB.
#[derive(Clone, Copy)]
pub(crate) struct Flb(&'static dyn FlbOps);

impl PartialEq for Flb {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.0, other.0)
    }
}

impl Flb {
    pub(crate) fn new(flb: &'static dyn FlbOps) -> Self {
        Self(flb)
    }

    pub(crate) fn compatible(&self) -> Option<Compatible> {
        Some(self.0.compatible())
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::get(self.0.module())
    }

    pub(crate) fn unkeep_owner(&self) {
        put(self.0.module());
    }

    pub(crate) fn outgoing<T>(&self, f: impl FnOnce(&mut Side) -> T) -> T {
        let _held = super::lock::take("luo_flb_outgoing");
        f(&mut self.0.sides().0.borrow_mut())
    }

    pub(crate) fn incoming<T>(&self, f: impl FnOnce(&mut Side) -> T) -> T {
        let _held = super::lock::take("luo_flb_incoming");
        f(&mut self.0.sides().1.borrow_mut())
    }

    pub(crate) fn preserve(&self) -> Result<(u64, Object)> {
        self.0.preserve()
    }

    pub(crate) fn unpreserve(&self, data: u64, object: Object) {
        self.0.unpreserve(data, object);
    }

    pub(crate) fn retrieve(&self, data: u64) -> Result<Object> {
        self.0.retrieve(data)
    }

    pub(crate) fn finish(&self, object: Object) {
        self.0.finish(object);
    }
}
