// SPDX-License-Identifier: GPL-2.0

//! Caches that were handed over: checked as a whole, then taken over as a whole.

use super::cache::{Cache, Parts};
use super::index::{seal, Index, NEXT, SEAL};
use super::shape::{Shape, FIRST, KIND};
use crate::kho::addr::PhysAddr;
use crate::kho::adopt::Claimed;
use crate::kho::link;
use crate::kho::root::Root;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Error, Result, EINVAL, ENOMEM};
use crate::sys::log;

impl Cache {
    /// Takes over the cache whose root is at an address. Nothing in it is trusted: every page that
    /// it names must have been preserved and be nobody's, and every link must be made for its
    /// place.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for a cache of another name or type, or one that is damaged; `EIO` if some of its
    /// memory has gone bad; `ENOMEM`. It stays as it is then, and waits.
    pub(crate) fn attach(root: PhysAddr, name: &[u8], size: usize, align: usize) -> Result<Self> {
        let shape = Shape::new(size, align)?;
        let mut claimed = Claimed::new();
        let frame = Root::claim(&mut claimed, &KIND, root, name, shape.of)?;
        let mut found = Found {
            shape,
            shards: KVVec::new(),
        };
        let mut next = frame.word(FIRST);
        while next != 0 {
            let number = found.shards.len();
            let at = link::judge(next, number as u64)
                .ok_or_else(|| broken(root, "a link of its index", next))?;
            let page = claimed
                .claim(at)
                .map_err(|err| refused(err, root, "a page of its index", at))?;
            if page.word(SEAL) != seal(root, at, number) {
                return Err(broken(root, "the seal of a page of its index", at.raw()));
            }
            found.take(root, &mut claimed, Index::new(page))?;
            next = page.word(NEXT);
        }
        // All that can fail before anything has changed.
        let parts = Parts::new(&shape, found.shards.len())?;
        let root = Root::adopt(claimed, &KIND, frame, name)?;
        let cache = parts.with(root, shape, &found.shards);
        cache.shrink();
        Ok(cache)
    }
}

/// The parts of a cache that have been found so far.
struct Found {
    shape: Shape,
    /// The pages of the index, and how many objects each has.
    shards: KVVec<(Index, u64)>,
}

impl Found {
    /// Checks the entries of a page of the index, and claims their pages. These are not read.
    fn take(&mut self, root: PhysAddr, claimed: &mut Claimed, mut index: Index) -> Result {
        let number = self.shards.len();
        let shape = self.shape;
        let mut all = 0;
        for slot in 0..shape.entries {
            let at = Index::word_of(&shape, slot);
            let link = index.frame.word(at);
            let (mut used, mut free) = (0, 0);
            for word in 0..shape.entry - 1 {
                let bits = index.frame.word(at + 1 + word);
                if bits & !shape.mask(word) != 0 || (link == 0 && bits != 0) {
                    return Err(broken(root, "what is allocated of a page", link));
                }
                used += u64::from(bits.count_ones());
                free += (shape.mask(word) & !bits).count_ones();
            }
            if link == 0 {
                continue;
            }
            let entry = shape.entry_number(number, slot);
            let page = link::judge(link, entry).ok_or_else(|| broken(root, "a link", link))?;
            claimed
                .claim(page)
                .map_err(|err| refused(err, root, "a page of objects", page))?;
            index.pages += 1;
            index.set_open(slot, free != 0);
            all += used;
        }
        Ok(self.shards.push((index, all), GFP_KERNEL)?)
    }
}

/// Says what could not be claimed, if not for want of memory.
fn refused(err: Error, root: PhysAddr, what: &str, at: PhysAddr) -> Error {
    match err == ENOMEM {
        true => err,
        false => {
            broken(root, what, at.raw());
            err
        }
    }
}

/// Says what is wrong with a cache.
fn broken(root: PhysAddr, what: &str, value: u64) -> Error {
    log::pr_warn!(
        "slab cache at {:#x} is not taken over, {what} is wrong: {value:#x}\n",
        root.raw()
    );
    EINVAL
}
