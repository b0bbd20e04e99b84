// SPDX-License-Identifier: GPL-2.0

//! Blocks on the way out: room for records is made beforehand, so that writing them cannot fail.

use core::marker::PhantomData;

use zerocopy::{Immutable, IntoBytes};

use super::addr::PhysAddr;
use super::block::{self, HEADER, MAX_BLOCKS};
use super::page::PreservedPage;
use super::words;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Result, ENOSPC};

/// Room for records of type `T` in preserved pages.
pub(crate) struct BlockSet<T> {
    pages: KVVec<PreservedPage>,
    of: PhantomData<T>,
}

impl<T: IntoBytes + Immutable> BlockSet<T> {
    /// Records in a block.
    const EACH: usize = block::records_per_block(size_of::<T>()) as usize;

    pub(crate) const fn new() -> Self {
        assert!(Self::EACH > 0 && size_of::<T>() % 8 == 0);
        Self {
            pages: KVVec::new(),
            of: PhantomData,
        }
    }

    /// Makes room for `records` in all.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, [`ENOSPC`] for more than a chain may have; [`Self::trim`] undoes what was made.
    pub(crate) fn reserve(&mut self, records: usize) -> Result {
        let blocks = records.div_ceil(Self::EACH);
        if blocks > MAX_BLOCKS {
            return Err(ENOSPC);
        }
        while self.pages.len() < blocks {
            self.pages.reserve(1, GFP_KERNEL)?;
            self.pages.push(PreservedPage::new()?, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Gives back what `records` do not need.
    pub(crate) fn trim(&mut self, records: usize) {
        self.pages.truncate(records.div_ceil(Self::EACH));
    }

    /// Writes record number `index`; without room for it, nothing.
    pub(crate) fn write(&mut self, index: usize, record: &T) {
        if let Some(page) = self.pages.get(index / Self::EACH) {
            let at = HEADER + index % Self::EACH * size_of::<T>();
            words::write(page.frame(), at, record);
        }
    }

    /// Chains the blocks that the first `records` are in. Returns where the chain begins; zero
    /// without records, as a block that holds none may not be handed over.
    pub(crate) fn seal(&mut self, records: usize) -> PhysAddr {
        let used = self.pages.len().min(records.div_ceil(Self::EACH));
        let mut next = PhysAddr::new(0);
        for (number, page) in self.pages.iter().enumerate().take(used).rev() {
            let count = (records - number * Self::EACH).min(Self::EACH);
            block::set_next(page.frame(), next);
            block::set_count(page.frame(), count as u64);
            next = page.frame().phys();
        }
        next
    }
}
