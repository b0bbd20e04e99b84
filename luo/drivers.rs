// SPDX-License-Identifier: GPL-2.0

//! The registry: which handlers there are, and which FLBs each of them needs.

use super::format::MAX_FLBS;
use super::text::Compatible;
use crate::sys::alloc::{Arc, KVVec, GFP_KERNEL};
use crate::sys::driver::{File, Flb, Ops, Owner};
use crate::sys::error::{Result, EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC};
use crate::sys::log;

/// A registered handler.
struct Entry {
    ops: Ops,
    compatible: Compatible,
    /// Replaced as a whole when it changes, so that a file keeps those it was preserved with.
    flbs: Arc<KVVec<Flb>>,
}

/// An FLB that at least one handler needs.
struct FlbEntry {
    flb: Flb,
    compatible: Compatible,
    /// Handlers that need it.
    users: usize,
}

/// Handlers and FLBs in the order of their registration.
pub(crate) struct Drivers {
    handlers: KVVec<Entry>,
    flbs: KVVec<FlbEntry>,
}

/// A handler that somebody uses: its module, and those of its FLBs, stay while this lives.
pub(crate) struct Driver {
    pub(crate) ops: Ops,
    pub(crate) compatible: Compatible,
    pub(crate) flbs: KVVec<(Flb, Owner)>,
    /// Declared last: a module is let go of after what is in it.
    pub(crate) owner: Owner,
}

impl Drivers {
    pub(crate) const fn new() -> Self {
        Self {
            handlers: KVVec::new(),
            flbs: KVVec::new(),
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
        let flbs = Arc::new(KVVec::new(), GFP_KERNEL)?;
        Ok(self.handlers.push(
            Entry {
                ops,
                compatible,
                flbs,
            },
            GFP_KERNEL,
        )?)
    }

    /// Removes a handler and what it needs.
    pub(crate) fn unregister(&mut self, ops: Ops) {
        let Some(at) = self.handlers.iter().position(|e| e.ops == ops) else {
            return;
        };
        if let Ok(entry) = self.handlers.remove(at) {
            entry.flbs.iter().for_each(|flb| self.forget(*flb));
        }
    }

    /// A user less of an FLB.
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
        let flbs = with(&handler.flbs, flb)?;
        match known.and_then(|at| self.flbs.get_mut(at)) {
            Some(entry) => entry.users += 1,
            None => self.flbs.push(
                FlbEntry {
                    flb,
                    compatible,
                    users: 1,
                },
                GFP_KERNEL,
            )?,
        }
        handler.flbs = flbs;
        Ok(())
    }

    /// Undoes [`Self::register_flb`]; files preserved meanwhile keep what they have.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is nothing to undo, `ENOMEM`.
    pub(crate) fn unregister_flb(&mut self, ops: Ops, flb: Flb) -> Result {
        let handler = self.handlers.iter_mut().find(|e| e.ops == ops);
        let handler = handler.filter(|e| e.flbs.contains(&flb)).ok_or(EINVAL)?;
        let mut rest = KVVec::with_capacity(handler.flbs.len(), GFP_KERNEL)?;
        for other in handler.flbs.iter().filter(|other| **other != flb) {
            rest.push(*other, GFP_KERNEL)?;
        }
        handler.flbs = Arc::new(rest, GFP_KERNEL)?;
        self.forget(flb);
        Ok(())
    }

    /// The handler of a file.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] if there is none or its module goes away, [`ENODEV`] if that of an FLB does,
    /// `ENOMEM`.
    pub(crate) fn of_file(&self, file: &File) -> Result<Driver> {
        let entry = self.handlers.iter().find(|e| e.ops.can_preserve(file));
        entry.ok_or(ENOENT)?.driver()
    }

    /// The handler of a format.
    ///
    /// # Errors
    ///
    /// As for [`Self::of_file`].
    pub(crate) fn of_format(&self, compatible: Compatible) -> Result<Driver> {
        let entry = self.handlers.iter().find(|e| e.compatible == compatible);
        entry.ok_or(ENOENT)?.driver()
    }

    /// Whose file it is, as its handler tells files apart; `None` if it has no handler.
    pub(crate) fn id_of(&self, file: &File) -> Option<u64> {
        let entry = self.handlers.iter().find(|e| e.ops.can_preserve(file))?;
        Some(entry.ops.id(file))
    }

    /// FLBs with their compatible strings.
    pub(crate) fn flbs(&self) -> impl Iterator<Item = (Flb, Compatible)> + '_ {
        self.flbs.iter().map(|entry| (entry.flb, entry.compatible))
    }
}

impl Entry {
    fn driver(&self) -> Result<Driver> {
        let owner = self.ops.owner().ok_or(ENOENT)?;
        let mut flbs = KVVec::with_capacity(self.flbs.len(), GFP_KERNEL)?;
        for flb in self.flbs.iter() {
            flbs.push((*flb, flb.owner().ok_or(ENODEV)?), GFP_KERNEL)?;
        }
        Ok(Driver {
            ops: self.ops,
            compatible: self.compatible,
            flbs,
            owner,
        })
    }
}

/// A list and one more.
fn with(list: &[Flb], one: Flb) -> Result<Arc<KVVec<Flb>>> {
    let mut more = KVVec::with_capacity(list.len() + 1, GFP_KERNEL)?;
    for flb in list.iter().chain([&one]) {
        more.push(*flb, GFP_KERNEL)?;
    }
    Ok(Arc::new(more, GFP_KERNEL)?)
}
