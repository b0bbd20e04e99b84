// SPDX-License-Identifier: GPL-2.0

//! FLBs: state that several files share, made for the first of them and let go of with the last.
//!
//! What is kept of one, and for how many, stands in the driver's `struct liveupdate_flb`, once for
//! the way out and once for the way in, each under a lock of its own. Here is what may become of
//! it.

use super::text::Compatible;
use crate::sys::alloc::KVVec;
pub(crate) use crate::sys::contract::{Phase, Side};
use crate::sys::driver::{Flb, Object, Owner};
use crate::sys::error::{Result, EBADMSG, ENODATA, ENODEV, ENOENT};
use crate::sys::log;

/// Most users: where the kernel's reference counts saturate.
pub(crate) const MAX_USERS: u64 = 1 << 30;

/// The record of an FLB that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) name: Compatible,
    pub(crate) data: u64,
    /// From 1 to [`MAX_USERS`]; the error if the record could not be used.
    pub(crate) users: Result<u32>,
}

/// All that arrived; or why there is nothing: `ENODATA`, or [`EBADMSG`] if it cannot be read.
pub(crate) type Table<'a> = Result<&'a [Arrived]>;

/// Adds a user of an outgoing FLB; the first one preserves it. `owner` keeps the driver's module.
///
/// # Errors
///
/// Whatever the driver says; nothing has changed then.
pub(crate) fn use_outgoing(flb: Flb, owner: &Owner) -> Result {
    flb.outgoing(|side| {
        if side.users == 0 {
            let (data, object) = flb.preserve()?;
            (side.data, side.object) = (data, object);
            side.phase = Phase::Live;
            owner.keep();
        }
        side.users = side.users.saturating_add(1);
        Ok(())
    })
}

/// The object on the way out, held until [`put_outgoing`].
///
/// # Errors
///
/// [`ENOENT`] if no file uses it.
pub(crate) fn get_outgoing(flb: Flb) -> Result<Object> {
    flb.outgoing(|side| {
        if side.users == 0 || side.object.is_null() {
            return Err(ENOENT);
        }
        side.users = side.users.saturating_add(1);
        Ok(side.object)
    })
}

/// Drops one user of an outgoing FLB; the last one unpreserves it.
pub(crate) fn put_outgoing(flb: Flb) {
    flb.outgoing(|side| {
        if side.users == 0 {
            log::pr_err!("luo: an FLB is put more often than it was taken\n");
            return;
        }
        side.users -= 1;
        if side.users == 0 {
            flb.unpreserve(side.data, side.object);
            *side = Side::IDLE;
            flb.unkeep_owner();
        }
    });
}

/// The object that arrived, held until [`put_incoming`]; the first to ask has it restored.
///
/// # Errors
///
/// [`ENODATA`] if nothing arrived at all or its last user has finished, [`ENOENT`] if this FLB did
/// not arrive, [`EBADMSG`] if its record is damaged, [`ENODEV`] if its module goes away, what the
/// driver says otherwise.
pub(crate) fn get_incoming(flb: Flb, name: Compatible, table: Table<'_>) -> Result<Object> {
    flb.incoming(|side| {
        restore(flb, name, table, side)?;
        side.users = side.users.saturating_add(1);
        Ok(side.object)
    })
}

/// Drops one user of an incoming FLB; the last one finishes it. Finishing a file counts even if
/// nobody retrieved the object, since the driver needs it to clean up.
pub(crate) fn put_incoming(flb: Flb, name: Compatible, table: Table<'_>) {
    flb.incoming(|side| {
        if matches!(side.phase, Phase::Failed(_) | Phase::Finished)
            || load(name, table, side).is_err()
        {
            // Nothing of it arrived that could be finished.
            return;
        }
        if side.users > 1 {
            side.users -= 1;
            return;
        }
        if let Err(err) = restore(flb, name, table, side) {
            log::pr_err!("luo: FLB {name} cannot be finished: {err:?}\n");
            return;
        }
        flb.finish(side.object);
        *side = Side {
            phase: Phase::Finished,
            ..Side::IDLE
        };
        flb.unkeep_owner();
    });
}

/// Finds out what arrived, once.
fn load(name: Compatible, table: Table<'_>, side: &mut Side) -> Result {
    if side.phase == Phase::Idle && side.users == 0 {
        let arrived = table?.iter().find(|a| a.name == name);
        let arrived = arrived.ok_or(ENOENT)?;
        side.users = arrived.users?;
        side.data = arrived.data;
    }
    Ok(())
}

/// Makes the object live.
fn restore(flb: Flb, name: Compatible, table: Table<'_>, side: &mut Side) -> Result {
    match side.phase {
        Phase::Live => return Ok(()),
        Phase::Failed(err) => return Err(err),
        Phase::Finished => return Err(ENODATA),
        Phase::Idle => load(name, table, side)?,
    }
    let owner = flb.owner().ok_or(ENODEV)?;
    match flb.retrieve(side.data) {
        Ok(object) => {
            side.object = object;
            side.phase = Phase::Live;
            owner.keep();
            Ok(())
        }
        Err(err) => {
            side.phase = Phase::Failed(err);
            Err(err)
        }
    }
}

impl Side {
    pub(crate) const IDLE: Self = Self {
        users: 0,
        data: 0,
        object: Object::NULL,
        phase: Phase::Idle,
    };
}

/// The FLBs that a file uses on the way out; given up, the last first, when dropped.
pub(crate) struct Uses(KVVec<(Flb, Owner)>);

impl Uses {
    /// Uses all of them or none.
    pub(crate) fn new(mut flbs: KVVec<(Flb, Owner)>) -> Result<Self> {
        let mut done = 0;
        let used = flbs.iter().try_for_each(|(flb, owner)| {
            use_outgoing(*flb, owner)?;
            done += 1;
            Ok(())
        });
        flbs.truncate(done);
        // On failure this gives up those before.
        let uses = Self(flbs);
        used.map(|()| uses)
    }

    /// Which they are.
    pub(crate) fn flbs(&self) -> impl Iterator<Item = &Flb> {
        self.0.iter().map(|(flb, _)| flb)
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        while let Some((flb, _owner)) = self.0.pop() {
            put_outgoing(flb);
        }
    }
}

/// A record that arrived, judged: a count that can be.
pub(crate) fn users(count: u64) -> Result<u32> {
    match u32::try_from(count) {
        Ok(users) if (1..=MAX_USERS).contains(&count) => Ok(users),
        _ => Err(EBADMSG),
    }
}
