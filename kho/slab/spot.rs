// SPDX-License-Identifier: GPL-2.0

//! Where a shard is among those of its cache, and what it can be marked with.

/// Shards of the first bucket; each has twice as many as the one before.
pub(super) const FIRST: usize = 4;

/// The marks of a shard.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    /// It has a free object, and no CPU allocates from it.
    Open,
    /// It has an entry without a page, and no CPU allocates from it.
    Room,
}

/// Which shards have which mark.
pub(super) trait Marks {
    /// Sets or takes away a mark, which is known to be the other way; the shard's lock is held.
    fn mark(&self, mark: Mark, number: usize, on: bool);
}

/// Where a shard is: the bucket, and the place in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) bucket: usize,
    pub(super) at: usize,
}

impl Spot {
    /// That of a number.
    pub(super) fn of(number: usize) -> Self {
        let number = number.saturating_add(FIRST);
        let bucket = (number.ilog2() - FIRST.ilog2()) as usize;
        let at = number - (FIRST << bucket);
        Self { bucket, at }
    }
}
