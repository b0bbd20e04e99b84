// SPDX-License-Identifier: GPL-2.0

//! Finds the shards of a cache by number without a lock: none moves or goes away while the cache
//! exists. Keeps a bitmap of shards with free objects, and one of shards with free entries.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::shard::Shard;
pub(super) use super::spot::{Mark, Spot};
use super::spot::{Marks, FIRST};
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Result, ENOMEM};
use crate::sys::lock::{spun, SetOnce, Spun};

/// More than memory has pages for.
const BUCKETS: usize = 36;

struct Bucket {
    shards: KVVec<Spun<Shard>>,
    /// A bit a shard, changed with that shard's lock held.
    marks: [KVVec<AtomicU64>; 2],
}

/// All shards. Not an array, because a `Cache` is moved on the stack, of 16 KiB, while it is built.
pub(super) struct Table {
    buckets: KVVec<SetOnce<Bucket>>,
    /// How many have each mark.
    marked: [AtomicUsize; 2],
}

impl Bucket {
    /// With so many shards, from a number on.
    fn new(from: usize, shards: usize) -> Result<Self> {
        let words = shards.div_ceil(64);
        let mut bucket = Self {
            shards: KVVec::with_capacity(shards, GFP_KERNEL)?,
            marks: [
                KVVec::with_capacity(words, GFP_KERNEL)?,
                KVVec::with_capacity(words, GFP_KERNEL)?,
            ],
        };
        for number in from..from + shards {
            let shard = spun!(Shard::new(number), "kho_slab_shard")?;
            bucket.shards.push(shard, GFP_KERNEL)?;
        }
        for marks in &mut bucket.marks {
            for _ in 0..words {
                marks.push(AtomicU64::new(0), GFP_KERNEL)?;
            }
        }
        Ok(bucket)
    }
}

impl Table {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn new() -> Result<Self> {
        let mut buckets = KVVec::with_capacity(BUCKETS, GFP_KERNEL)?;
        for _ in 0..BUCKETS {
            buckets.push(SetOnce::new(), GFP_KERNEL)?;
        }
        Ok(Self {
            buckets,
            marked: [AtomicUsize::new(0), AtomicUsize::new(0)],
        })
    }

    /// The shard of a number, in the chain or not; `None` if it is too large.
    pub(super) fn get(&self, number: usize) -> Option<&Spun<Shard>> {
        self.find(Spot::of(number))
    }

    /// The shard that is somewhere, if one is.
    #[inline(always)]
    pub(super) fn find(&self, spot: Spot) -> Option<&Spun<Shard>> {
        let bucket = self.buckets.get(spot.bucket)?.as_ref()?;
        bucket.shards.get(spot.at)
    }

    /// The shard of a number, which is made if there is none. By one thread at a time.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn make(&self, number: usize) -> Result<&Spun<Shard>> {
        let Spot { bucket, .. } = Spot::of(number);
        let once = self.buckets.get(bucket).ok_or(ENOMEM)?;
        if once.as_ref().is_none() {
            once.populate(Bucket::new((FIRST << bucket) - FIRST, FIRST << bucket)?);
        }
        self.get(number).ok_or(ENOMEM)
    }

    /// Shards that have a mark, while nobody changes it.
    pub(super) fn marked(&self, mark: Mark) -> impl Iterator<Item = usize> + '_ {
        let count = self.marked.get(mark as usize);
        let any = count.is_some_and(|count| count.load(Ordering::Relaxed) != 0);
        let buckets = self.buckets.iter().take(if any { BUCKETS } else { 0 });
        let buckets = buckets.map_while(SetOnce::as_ref).enumerate();
        buckets.flat_map(move |(bucket, found)| {
            let first = (FIRST << bucket) - FIRST;
            let words = found
                .marks
                .get(mark as usize)
                .into_iter()
                .flat_map(|m| m.iter());
            words.enumerate().flat_map(move |(at, word)| {
                let mut rest = word.load(Ordering::Relaxed);
                core::iter::from_fn(move || {
                    let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                    rest &= rest - 1;
                    Some(first + at * 64 + bit)
                })
            })
        })
    }
}

impl Marks for Table {
    fn mark(&self, mark: Mark, number: usize, on: bool) {
        let Spot { bucket, at } = Spot::of(number);
        let bucket = self.buckets.get(bucket).and_then(SetOnce::as_ref);
        let marks = bucket.and_then(|bucket| bucket.marks.get(mark as usize));
        let word = marks.and_then(|marks| marks.get(at / 64));
        let Some((word, count)) = word.zip(self.marked.get(mark as usize)) else {
            return;
        };
        match on {
            true => {
                word.fetch_or(1 << (at % 64), Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
            }
            false => {
                word.fetch_and(!(1 << (at % 64)), Ordering::Relaxed);
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_slab_table))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other() {
        let mut expected = Spot { bucket: 0, at: 0 };
        for number in 0..10_000 {
            assert!(Spot::of(number) == expected);
            expected.at += 1;
            if expected.at == FIRST << expected.bucket {
                expected.bucket += 1;
                expected.at = 0;
            }
        }
        assert!(Spot::of(usize::MAX).bucket >= BUCKETS);
    }

    #[test]
    fn marks_are_found() {
        let Ok(table) = Table::new() else {
            panic!("no memory");
        };
        for number in 0..200 {
            assert!(table.make(number).is_ok() && table.get(number).is_some());
        }
        assert!(table.get(300).is_none());
        assert!(table.marked(Mark::Open).next().is_none());
        for number in [3, 64, 199] {
            table.mark(Mark::Open, number, true);
        }
        table.mark(Mark::Room, 5, true);
        assert!(table.marked(Mark::Open).eq([3, 64, 199]));
        table.mark(Mark::Open, 64, false);
        assert!(table.marked(Mark::Open).eq([3, 199]));
        assert!(table.marked(Mark::Room).eq([5]));
    }
}
