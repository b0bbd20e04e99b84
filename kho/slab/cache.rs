// SPDX-License-Identifier: GPL-2.0

//! A cache of this kernel: allocating and freeing its objects, by any number of CPUs at a time.
//!
//! Each CPU allocates from a shard of its own, of its own NUMA node. When that has no free object
//! it takes one over that has and that no other CPU allocates from, or else adds a page. An object
//! is freed into the shard it came from, whichever CPU frees it. Locks: the chain, which may sleep;
//! then one shard, with interrupts off.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::index::{seal, Index, NEXT, SEAL};
use super::shape::{Shape, FIRST, KIND};
use super::shard::{noted, zero, Object, Place, Shard};
use super::table::{Mark, Table};
use crate::kho::addr::PhysAddr;
use crate::kho::link::{self, commit};
use crate::kho::page::PreservedPage;
use crate::kho::root::Root;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Result, EINVAL, ENOMEM};
use crate::sys::lock::{locked, Locked, Spun};
use crate::sys::pages::{self, Somewhere};
use crate::sys::{cpu, Frame};

/// Whether a caller may sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    May,
    MustNot,
}

/// No shard has this number.
const NONE: usize = usize::MAX;

/// A cache. Dropping it frees its objects and its name.
pub(crate) struct Cache {
    root: Root,
    shape: Shape,
    table: Table,
    /// The shard that each CPU allocates from.
    own: KVVec<AtomicUsize>,
    /// How many pages the index has: those of the shards from 0 on.
    chain: Locked<usize>,
}

impl Cache {
    /// Makes a cache of objects of some size and alignment. An empty name is none.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for a type or name that cannot be, also while KHO is off; `EEXIST` for a name in
    /// use; `ENOMEM`.
    pub(crate) fn create(name: &[u8], size: usize, align: usize) -> Result<Self> {
        let shape = Shape::new(size, align)?;
        let made = Parts::new(&shape, 0)?;
        Ok(made.with(Root::create(&KIND, name, shape.of)?, shape, &[]))
    }

    /// The address by which a cache without a name is found.
    pub(crate) fn handle(&self) -> PhysAddr {
        self.root.frame().phys()
    }

    /// Objects that are allocated.
    pub(crate) fn used(&self) -> u64 {
        self.shards().map(|shard| shard.lock().used).sum()
    }

    /// Allocates an object: zeroed, and preserved.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], also if there is no free one and the caller must not sleep.
    #[inline(always)]
    pub(crate) fn alloc(&self, sleep: Sleep) -> Result<Object> {
        let cpu = cpu::this();
        if let Some(shard) = self.table.get(self.own(cpu).load(Ordering::Relaxed)) {
            if let Some(object) = shard.lock().alloc(&self.shape) {
                return Ok(object);
            }
        }
        self.alloc_elsewhere(cpu, sleep)
    }

    /// Frees an object, and zeroes it. A page whose last object it was is given back, but for one a
    /// CPU, and if the caller must not sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for what is no object of this cache.
    #[inline(never)]
    pub(crate) fn free(&self, object: Somewhere, sleep: Sleep) -> Result {
        let (place, shard) = self.place(object).ok_or(EINVAL)?;
        let mut held = shard.lock();
        let empty = held.free(&self.shape, place)?;
        if held.is_unmarked() {
            held.remark(&self.shape, &self.table);
        }
        if empty && sleep == Sleep::May {
            drop(held);
            self.give_back(shard, place.slot);
        }
        Ok(())
    }

    /// Zeroes an allocated object.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for what is no object of this cache.
    pub(crate) fn clear(&self, object: Somewhere) -> Result {
        let found = self.find(object).ok_or(EINVAL)?;
        zero(&self.shape, found.page, found.offset);
        Ok(())
    }

    /// The allocated object at an address, if there is one.
    pub(crate) fn find(&self, object: Somewhere) -> Option<Object> {
        let (place, shard) = self.place(object)?;
        let found = shard.lock().find(&self.shape, place);
        found
    }

    /// Frees an object after `copy` has looked at it: both at once, so that it is copied by one
    /// alone. A page whose last object it was stays. `copy` runs with interrupts off.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for what is no object of this cache.
    pub(crate) fn take(&self, object: Somewhere, copy: impl FnOnce(Object)) -> Result {
        let (place, shard) = self.place(object).ok_or(EINVAL)?;
        let mut held = shard.lock();
        copy(held.find(&self.shape, place).ok_or(EINVAL)?);
        held.free(&self.shape, place)?;
        held.remark(&self.shape, &self.table);
        Ok(())
    }

    /// Gives back the page that an object was in, if it has none any more.
    pub(crate) fn tidy(&self, object: Somewhere) {
        if let Some((place, shard)) = self.place(object) {
            self.give_back(shard, place.slot);
        }
    }

    /// The first allocated object at `position` or behind it, and what is behind that; begin
    /// with 0. Objects may be allocated and freed in between: those that are there all the time
    /// are met once.
    pub(crate) fn next(&self, position: u64) -> Option<(Object, u64)> {
        let shape = &self.shape;
        let each = shape.objects as u64;
        let entry = usize::try_from(position.checked_div(each)?).ok()?;
        let mut from = position.checked_rem(each)? as usize;
        let mut slot = entry.checked_rem(shape.entries)?;
        for number in entry.checked_div(shape.entries)?.. {
            let found = self.table.get(number)?.lock().next(shape, slot, from);
            if let Some((object, slot, at)) = found {
                let behind = shape.entry_number(number, slot) * each + at as u64 + 1;
                return Some((object, behind));
            }
            (slot, from) = (0, 0);
        }
        None
    }

    /// Gives back every page that has no object.
    pub(crate) fn shrink(&self) {
        for shard in self.shards() {
            let mut from = 0;
            loop {
                let page = {
                    let mut held = shard.lock();
                    held.owned = false;
                    let page = held.remove_next(&self.shape, &mut from);
                    held.remark(&self.shape, &self.table);
                    page
                };
                if page.is_none() {
                    break;
                }
            }
        }
        self.trim();
    }

    /// Bytes of an object.
    pub(crate) fn size(&self) -> usize {
        self.shape.of.size as usize
    }

    /// The shards there are, also those that are not in the chain.
    fn shards(&self) -> impl Iterator<Item = &Spun<Shard>> {
        (0..).map_while(|number| self.table.get(number))
    }

    fn own(&self, cpu: usize) -> &AtomicUsize {
        static NOBODY: AtomicUsize = AtomicUsize::new(NONE);
        self.own.get(cpu).unwrap_or(&NOBODY)
    }

    /// Where an object would have to be.
    #[inline(always)]
    fn place(&self, at: Somewhere) -> Option<(Place, &Spun<Shard>)> {
        let number = self.shape.divide(at.offset())?;
        let (shard, slot) = noted(at.note()?);
        Some((Place { at, slot, number }, self.table.find(shard)?))
    }

    /// Allocates where this CPU has nothing.
    #[cold]
    #[inline(never)]
    fn alloc_elsewhere(&self, cpu: usize, sleep: Sleep) -> Result<Object> {
        if let Some(object) = self.take_over(cpu, Mark::Open, cpu::node(), |shard| {
            shard.alloc(&self.shape)
        }) {
            return Ok(object);
        }
        if sleep == Sleep::MustNot {
            return self.anywhere().ok_or(ENOMEM);
        }
        let page = match PreservedPage::new() {
            Ok(page) => page,
            Err(err) => return self.anywhere().ok_or(err),
        };
        self.add(cpu, page)
            .or_else(|err| self.anywhere().ok_or(err))
    }

    /// An object of any shard that has one: before there is none.
    fn anywhere(&self) -> Option<Object> {
        self.shards()
            .find_map(|shard| shard.lock().alloc(&self.shape))
    }

    /// Makes a shard of a node, which has a mark and is nobody's, this CPU's, if `f` finds what it
    /// looks for.
    fn take_over<T>(
        &self,
        cpu: usize,
        mark: Mark,
        node: i32,
        mut f: impl FnMut(&mut Shard) -> Option<T>,
    ) -> Option<T> {
        self.table.marked(mark).find_map(|number| {
            let found = {
                let mut shard = self.table.get(number)?.lock();
                if shard.owned || shard.node != node {
                    return None;
                }
                let found = f(&mut shard);
                shard.owned = found.is_some();
                shard.remark(&self.shape, &self.table);
                found
            };
            if found.is_some() {
                self.set_own(cpu, number);
            }
            found
        })
    }

    /// Has a CPU allocate from another shard.
    fn set_own(&self, cpu: usize, number: usize) {
        let before = self.own(cpu).swap(number, Ordering::Relaxed);
        if let Some(shard) = self.table.get(before).filter(|_| before != number) {
            let mut shard = shard.lock();
            shard.owned = false;
            shard.remark(&self.shape, &self.table);
        }
    }

    /// Adds a page of free objects, and allocates the first.
    fn add(&self, cpu: usize, page: PreservedPage) -> Result<Object> {
        let node = pages::node_of(page.frame().phys().pfn());
        let mut page = Some(page);
        let mut enter = |shard: &mut Shard| match shard.enter(&self.shape, page.take()?) {
            Ok(()) => shard.alloc(&self.shape),
            Err(back) => {
                page = Some(back);
                None
            }
        };
        let own = self.table.get(self.own(cpu).load(Ordering::Relaxed));
        let entered = own.and_then(|own| {
            let mut shard = own.lock();
            // Another one may have been told that it is nobody's: then it is taken over below.
            let ours = shard.owned && shard.node == node;
            ours.then(|| enter(&mut shard)).flatten()
        });
        if let Some(object) = entered.or_else(|| self.take_over(cpu, Mark::Room, node, enter)) {
            return Ok(object);
        }
        let (number, object) = self.extend(page.ok_or(ENOMEM)?, node)?;
        self.set_own(cpu, number);
        Ok(object)
    }

    /// Adds a page to the index, at its end, and enters a page of objects there.
    fn extend(&self, page: PreservedPage, node: i32) -> Result<(usize, Object)> {
        let mut chain = self.chain.lock();
        let number = *chain;
        let shard = self.table.make(number)?;
        let memory = Shard::memory(&self.shape)?;
        let frame = PreservedPage::new()?.keep();
        frame.set_word(SEAL, seal(self.handle(), frame.phys(), number));
        commit();
        // It is there for the next kernel before anybody can allocate from it.
        self.link(number, link::to(frame, number as u64));
        commit();
        *chain += 1;
        let (object, left) = {
            let mut shard = shard.lock();
            let before = shard.put(&self.shape, Index::new(frame), 0, memory);
            shard.node = node;
            let left = shard.enter(&self.shape, page).err();
            shard.owned = true;
            shard.remark(&self.shape, &self.table);
            (shard.alloc(&self.shape), (left, before))
        };
        debug_assert!(left.0.is_none(), "a page of the index has room at first");
        drop(left);
        Ok((number, object.ok_or(ENOMEM)?))
    }

    /// Writes the link to page `number` of the index, where it belongs. The chain is locked.
    fn link(&self, number: usize, link: u64) {
        let before = number.checked_sub(1).and_then(|n| self.table.get(n));
        match before.and_then(|shard| shard.lock().frame()) {
            Some(before) => before.set_word(NEXT, link),
            None => self.root.frame().set_word(FIRST, link),
        }
    }

    /// Gives back the page of an entry if it has no object, and what of the index has nothing then.
    #[cold]
    #[inline(never)]
    fn give_back(&self, shard: &Spun<Shard>, slot: usize) {
        let (page, bare) = {
            let mut shard = shard.lock();
            let page = shard.remove(&self.shape, slot);
            shard.remark(&self.shape, &self.table);
            (page, shard.is_bare())
        };
        if page.is_some() && bare {
            self.trim();
        }
    }

    /// Gives back the pages at the end of the index that have nothing.
    fn trim(&self) {
        let mut chain = self.chain.lock();
        while let Some(number) = chain.checked_sub(1) {
            let last = self.table.get(number);
            let Some(frame) = last.and_then(|l| l.lock().take(&self.shape, &self.table)) else {
                return;
            };
            self.link(number, 0);
            commit();
            *chain = number;
            drop(PreservedPage::of(frame));
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Nothing leads to the pages any more when they go, should the machine stop meanwhile.
        self.root.frame().set_word(FIRST, 0);
        commit();
        for shard in (0..).map_while(|number| self.table.get(number)) {
            for slot in 0..self.shape.entries {
                let page = shard.lock().give_up(slot);
                drop(page);
            }
            let frame = shard.lock().frame();
            drop(frame.map(PreservedPage::of));
        }
    }
}

/// The parts of a cache that are allocated before the cache is made.
pub(super) struct Parts {
    own: KVVec<AtomicUsize>,
    chain: Locked<usize>,
    table: Table,
    memory: KVVec<KVVec<Option<Frame>>>,
}

impl Parts {
    /// For a cache with so many pages of the index.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(super) fn new(shape: &Shape, chain: usize) -> Result<Self> {
        let mut own = KVVec::with_capacity(cpu::count(), GFP_KERNEL)?;
        for _ in 0..cpu::count() {
            own.push(AtomicUsize::new(NONE), GFP_KERNEL)?;
        }
        let table = Table::new()?;
        let mut memory = KVVec::with_capacity(chain, GFP_KERNEL)?;
        for number in 0..chain {
            table.make(number)?;
            memory.push(Shard::memory(shape)?, GFP_KERNEL)?;
        }
        Ok(Self {
            own,
            chain: locked!(chain, "kho_slab_chain")?,
            table,
            memory,
        })
    }

    /// Makes the cache, with the pages of the index that were found, and how many objects each has:
    /// as many as there is memory for.
    pub(super) fn with(self, root: Root, shape: Shape, found: &[(Index, u64)]) -> Cache {
        let Self {
            own,
            chain,
            table,
            mut memory,
        } = self;
        for (number, (index, used)) in found.iter().enumerate().rev() {
            if let Some((shard, memory)) = table.get(number).zip(memory.pop()) {
                let mut shard = shard.lock();
                // It had none: nothing is freed with the lock held.
                drop(shard.put(&shape, *index, *used, memory));
                shard.remark(&shape, &table);
            }
        }
        Cache {
            root,
            shape,
            table,
            own,
            chain,
        }
    }
}
