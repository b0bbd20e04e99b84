// SPDX-License-Identifier: GPL-2.0

//! The registry: which handlers there are, and which FLBs each of them needs.
//!
//! Handlers whose formats differ in nothing but the version may take the same files: which of them
//! gets one is a question of who is to read it. One that did not take the file never gets it.

use core::sync::atomic::{AtomicU64, Ordering};

use super::format::MAX_FLBS;
use super::formats::choice::Choice;
use super::formats::id::Id;
use super::text::Compatible;
use crate::sys::alloc::{Arc, KVVec, GFP_KERNEL};
use crate::sys::driver::{File, Flb, Ops, Owner};
use crate::sys::error::{Result, EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC, EPROTONOSUPPORT};
use crate::sys::lock::Locked;
use crate::sys::log;

/// A registered handler.
struct Entry {
    number: u64,
    ops: Ops,
    compatible: Compatible,
    format: Id,
    /// Whether files may be written in its format.
    enabled: bool,
    users: Arc<AtomicU64>,
    flbs: KVVec<Flb>,
}

/// A file that is preserved in a format, counted as long as this lives.
pub(crate) struct User(Arc<AtomicU64>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An FLB that at least one handler needs.
struct FlbEntry {
    number: u64,
    flb: Flb,
    compatible: Compatible,
    /// Handlers that need it.
    users: usize,
}

/// Handlers and FLBs in the order of their registration, numbered so that one can go from each to
/// the next though the registry is not held meanwhile. It is never held while a driver is called.
pub(crate) struct Drivers {
    handlers: KVVec<Entry>,
    flbs: KVVec<FlbEntry>,
    /// The last number given.
    last: u64,
}

/// A handler that somebody uses; its module stays while this lives.
pub(crate) struct Driver {
    pub(crate) ops: Ops,
    pub(crate) compatible: Compatible,
    pub(crate) format: Id,
    number: u64,
    users: Arc<AtomicU64>,
    pub(crate) owner: Owner,
}

impl Driver {
    /// One more file is preserved in its format.
    pub(crate) fn user(&self) -> User {
        self.users.fetch_add(1, Ordering::Relaxed);
        User(self.users.clone())
    }
}

/// An FLB that somebody uses; its module stays while this lives.
pub(crate) struct UsedFlb {
    pub(crate) flb: Flb,
    pub(crate) compatible: Compatible,
    number: u64,
    _owner: Owner,
}

impl Drivers {
    pub(crate) const fn new() -> Self {
        Self {
            handlers: KVVec::new(),
            flbs: KVVec::new(),
            last: 0,
        }
    }

    /// # Errors
    ///
    /// [`EEXIST`] for a compatible string that is taken, `ENOMEM`.
    pub(crate) fn register(&mut self, ops: Ops, compatible: Compatible) -> Result {
        if self.handlers.iter().any(|e| e.compatible == compatible) {
            log::pr_err!("luo: there is a handler for {compatible} already\n");
            return Err(EEXIST);
        }
        let format = Id::of(&compatible);
        if self.handlers.iter().any(|e| e.format == format) {
            log::pr_err!("luo: there is a handler for version {format} already\n");
            return Err(EEXIST);
        }
        self.last += 1;
        Ok(self.handlers.push(
            Entry {
                number: self.last,
                ops,
                compatible,
                format,
                enabled: true,
                users: Arc::new(AtomicU64::new(0), GFP_KERNEL)?,
                flbs: KVVec::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// The newest handler of a name that may write, and writes what `choice` says is read; its
    /// version is less than `below`, if it says so.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`] if there is none.
    fn newest(&self, name: &Compatible, choice: &Choice<'_>, below: Option<u32>) -> Result<Driver> {
        let named = self.handlers.iter().filter(|e| e.format.name == *name);
        named
            .filter(|e| below.is_none_or(|below| e.format.version < below))
            .filter(|e| e.enabled && choice.reads(&e.format))
            .max_by_key(|e| e.format.version)
            .and_then(Entry::driver)
            .ok_or(EPROTONOSUPPORT)
    }

    /// The first format of a handler after `format`, in their order.
    pub(crate) fn format_after(&self, format: Option<&Id>) -> Option<Id> {
        let formats = self.handlers.iter().map(|e| e.format);
        formats
            .filter(|other| format.is_none_or(|format| other > format))
            .min()
    }

    /// Whether a format may be written; `None` if it has no handler.
    pub(crate) fn enabled(&self, format: &Id) -> Option<bool> {
        self.of(format).map(|entry| entry.enabled)
    }

    /// Lets a format be written from now on, or not. Returns what was the case before.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if it has no handler.
    pub(crate) fn enable(&mut self, format: &Id, on: bool) -> Result<bool> {
        let entry = self.handlers.iter_mut().find(|e| e.format == *format);
        let entry = entry.ok_or(ENODEV)?;
        Ok(core::mem::replace(&mut entry.enabled, on))
    }

    /// Files that are preserved in a format.
    pub(crate) fn users(&self, format: &Id) -> u64 {
        self.of(format)
            .map_or(0, |entry| entry.users.load(Ordering::Relaxed))
    }

    fn of(&self, format: &Id) -> Option<&Entry> {
        self.handlers.iter().find(|e| e.format == *format)
    }

    /// Removes a handler and what it needs.
    pub(crate) fn unregister(&mut self, ops: Ops) {
        let Some(at) = self.handlers.iter().position(|e| e.ops == ops) else {
            return;
        };
        if let Ok(entry) = self.handlers.remove(at) {
            for flb in entry.flbs.iter() {
                self.forget(*flb);
            }
        }
    }

    /// Drops one user of an FLB.
    fn forget(&mut self, flb: Flb) {
        let Some(at) = self.flbs.iter().position(|e| e.flb == flb) else {
            return;
        };
        if let Some(entry) = self.flbs.get_mut(at) {
            entry.users -= 1;
            if entry.users == 0 {
                // The index is that of an entry.
                let _ = self.flbs.remove(at);
            }
        }
    }

    /// Has `flb` preserved with every file of `ops`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the handler is not registered, [`EEXIST`] if it needs the FLB already or
    /// another FLB has this compatible string, [`ENOSPC`] if the table handed over has no room for
    /// one more, `ENOMEM`.
    pub(crate) fn register_flb(&mut self, ops: Ops, flb: Flb, compatible: Compatible) -> Result {
        let handler = self.handlers.iter().position(|e| e.ops == ops);
        let handler = handler
            .and_then(|at| self.handlers.get_mut(at))
            .ok_or(EINVAL)?;
        if handler.flbs.contains(&flb) {
            return Err(EEXIST);
        }
        let known = self.flbs.iter().position(|e| e.flb == flb);
        if known.is_none() {
            if self.flbs.len() >= MAX_FLBS {
                return Err(ENOSPC);
            }
            if self.flbs.iter().any(|e| e.compatible == compatible) {
                return Err(EEXIST);
            }
        }
        handler.flbs.reserve(1, GFP_KERNEL)?;
        match known.and_then(|at| self.flbs.get_mut(at)) {
            Some(entry) => entry.users += 1,
            None => {
                self.last += 1;
                self.flbs.push(
                    FlbEntry {
                        number: self.last,
                        flb,
                        compatible,
                        users: 1,
                    },
                    GFP_KERNEL,
                )?;
            }
        }
        // There is room.
        Ok(handler.flbs.push(flb, GFP_KERNEL)?)
    }

    /// Undoes [`Self::register_flb`]; files preserved meanwhile keep what they have. False if there
    /// is nothing to undo.
    pub(crate) fn unregister_flb(&mut self, ops: Ops, flb: Flb) -> bool {
        let handler = self.handlers.iter_mut().find(|e| e.ops == ops);
        let Some(handler) = handler.filter(|e| e.flbs.contains(&flb)) else {
            return false;
        };
        handler.flbs.retain(|other| *other != flb);
        self.forget(flb);
        true
    }

    /// The first handler after the one of that number, those left out whose modules go away.
    fn handler_after(&self, number: u64) -> Option<Driver> {
        let rest = self.handlers.iter().filter(|e| e.number > number);
        rest.filter_map(Entry::driver).next()
    }

    /// The handler of a format; `None` if there is none, or its module goes away.
    pub(crate) fn of_format(&self, compatible: Compatible) -> Option<Driver> {
        let entry = self.handlers.iter().find(|e| e.compatible == compatible);
        entry?.driver()
    }

    /// All FLBs that a handler needs.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the module of one goes away, `ENOMEM`.
    pub(crate) fn flbs_of(&self, driver: &Driver) -> Result<KVVec<(Flb, Owner)>> {
        let entry = self.handlers.iter().find(|e| e.number == driver.number);
        let needed: &[Flb] = entry.map_or(&[], |entry| &entry.flbs);
        let mut flbs = KVVec::with_capacity(needed.len(), GFP_KERNEL)?;
        for flb in needed {
            flbs.push((*flb, flb.owner().ok_or(ENODEV)?), GFP_KERNEL)?;
        }
        Ok(flbs)
    }

    /// Returns the handler's last FLB registered before `number`, skipping FLBs whose module is
    /// being unloaded.
    pub(crate) fn flb_before(&self, driver: &Driver, number: u64) -> Option<UsedFlb> {
        let entry = self.handlers.iter().find(|e| e.number == driver.number)?;
        let before = self.flbs.iter().rev().filter(|e| e.number < number);
        before
            .filter(|e| entry.flbs.contains(&e.flb))
            .filter_map(FlbEntry::used)
            .next()
    }

    /// The first FLB after the one of that number, those left out whose modules go away: nobody
    /// uses them.
    pub(crate) fn flb_after(&self, number: u64) -> Option<UsedFlb> {
        let after = self.flbs.iter().filter(|e| e.number > number);
        after.filter_map(FlbEntry::used).next()
    }
}

/// The handler of a file: the first that says so.
///
/// # Errors
///
/// [`ENOENT`] if there is none.
pub(crate) fn of_file(drivers: &Locked<Drivers>, file: &File) -> Result<Driver> {
    let mut number = 0;
    loop {
        let Some(driver) = drivers.lock().handler_after(number) else {
            return Err(ENOENT);
        };
        if driver.ops.can_preserve(file) {
            return Ok(driver);
        }
        number = driver.number;
    }
}

/// The newest handler of a name that may write, writes what `choice` says is read, and `takes` the
/// file in question: who shares a name need not take the same files.
///
/// # Errors
///
/// [`EPROTONOSUPPORT`] if there is none.
pub(crate) fn choose(
    drivers: &Locked<Drivers>,
    name: &Compatible,
    choice: &Choice<'_>,
    takes: impl Fn(&Ops) -> bool,
) -> Result<Driver> {
    let mut below = None;
    loop {
        let driver = drivers.lock().newest(name, choice, below)?;
        if takes(&driver.ops) {
            return Ok(driver);
        }
        below = Some(driver.format.version);
    }
}

impl Entry {
    fn driver(&self) -> Option<Driver> {
        Some(Driver {
            ops: self.ops,
            compatible: self.compatible,
            format: self.format,
            number: self.number,
            users: self.users.clone(),
            owner: self.ops.owner()?,
        })
    }
}

impl FlbEntry {
    fn used(&self) -> Option<UsedFlb> {
        Some(UsedFlb {
            flb: self.flb,
            compatible: self.compatible,
            number: self.number,
            _owner: self.flb.owner()?,
        })
    }
}

impl UsedFlb {
    /// Its number, to go on from.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}
