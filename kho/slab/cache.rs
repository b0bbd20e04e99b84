// SPDX-License-Identifier: GPL-2.0

//! A cache of this kernel: allocating and freeing its objects.

use super::bits::Bits;
use super::index::{commit, seal, Index, NEXT, SEAL};
use super::shape::{Shape, FIRST, KIND, PAGE, WORD};
use crate::kho::addr::{Pfn, PhysAddr};
use crate::kho::link;
use crate::kho::page::PreservedPage;
use crate::kho::root::Root;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Result, EINVAL};
use crate::sys::{pages, Frame};

/// A cache. Dropping it frees its objects and its name.
///
/// # Invariants
///
/// The pages of the index, and the pages entered there, are this cache's, and preserved; in the
/// struct page of each of the latter the number of its entry is noted. Free objects are zero, unless
/// the kernel that left them was broken.
pub(crate) struct Cache {
    pub(super) root: Root,
    pub(super) shape: Shape,
    pub(super) indexes: KVVec<Index>,
    /// Pages of the index with an entry that has a free object.
    pub(super) open: Bits,
    /// Pages of the index with an entry that has no page.
    pub(super) room: Bits,
    pub(super) used: u64,
    /// The page of objects that the last one was allocated in.
    pub(super) last: Option<(Place, Frame)>,
}

/// An entry of the index.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    index: usize,
    slot: usize,
}

/// Where an object is.
struct Object {
    place: Place,
    page: Frame,
    number: usize,
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
        Ok(Self {
            root: Root::create(&KIND, name, shape.of)?,
            shape,
            indexes: KVVec::new(),
            open: Bits::new(),
            room: Bits::new(),
            used: 0,
            last: None,
        })
    }

    /// The address by which a cache without a name is found.
    pub(crate) fn handle(&self) -> PhysAddr {
        self.root.frame().phys()
    }

    /// Objects that are allocated.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Allocates an object: zeroed, and preserved.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn alloc(&mut self) -> Result<PhysAddr> {
        loop {
            let Place { index, slot } = match self.first_open() {
                Some(place) => place,
                None => self.add_page()?,
            };
            let shape = self.shape;
            let Some(found) = self.indexes.get_mut(index) else {
                continue;
            };
            let place = Place { index, slot };
            let page = match self.last.filter(|(last, _)| *last == place) {
                Some((_, page)) => Some(page),
                None => found.page(&shape, slot),
            };
            let Some((object, page)) = found.first_free(&shape, slot).zip(page) else {
                // Full: it was the last one's turn to say so.
                self.set_open(place, false);
                continue;
            };
            found.set_used(&shape, slot, object, true);
            self.used += 1;
            self.last = Some((place, page));
            return Ok(at(page, object * shape.stride));
        }
    }

    /// Frees an object, and zeroes it. A page whose last object it was is given back.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for what is no object of this cache.
    pub(crate) fn free(&mut self, object: PhysAddr) -> Result {
        let shape = self.shape;
        let Object {
            place,
            page,
            number,
        } = self.find(object)?;
        self.zero(page, number);
        let index = self.indexes.get_mut(place.index).ok_or(EINVAL)?;
        index.set_used(&shape, place.slot, number, false);
        self.used = self.used.saturating_sub(1);
        let open = index.is_open(place.slot);
        if index.first_used(&shape, place.slot, 0).is_none() {
            self.remove_page(place, page);
        } else if !open {
            self.set_open(place, true);
        }
        Ok(())
    }

    /// Zeroes an allocated object.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for what is no object of this cache.
    pub(crate) fn clear(&mut self, object: PhysAddr) -> Result {
        let found = self.find(object)?;
        self.zero(found.page, found.number);
        Ok(())
    }

    /// Whether an address is that of an allocated object.
    pub(crate) fn contains(&self, object: PhysAddr) -> bool {
        self.find(object).is_ok()
    }

    /// The first allocated object at `position` or behind it, and what is behind that; begin with 0.
    /// Objects may be allocated and freed in between: those that are there all the time are met once.
    pub(crate) fn next(&self, position: u64) -> Option<(PhysAddr, u64)> {
        let shape = &self.shape;
        let each = shape.objects as u64;
        let mut number = usize::try_from(position.checked_div(each)?).ok()?;
        let mut from = position.checked_rem(each)? as usize;
        while let Some(index) = self.indexes.get(number.checked_div(shape.entries)?) {
            let slot = number.checked_rem(shape.entries)?;
            if index.pages == 0 {
                number += shape.entries - slot;
                from = 0;
                continue;
            }
            let used = index.first_used(shape, slot, from);
            if let Some((object, page)) = used.zip(index.page(shape, slot)) {
                let behind = number as u64 * each + object as u64 + 1;
                return Some((at(page, object * shape.stride), behind));
            }
            number += 1;
            from = 0;
        }
        None
    }

    /// Finds an allocated object, whoever says that it is one.
    fn find(&self, object: PhysAddr) -> Result<Object> {
        let shape = &self.shape;
        let start = object.pfn().phys();
        let offset = usize::try_from(object.raw() - start.raw()).map_err(|_| EINVAL)?;
        // Nothing is 0 here, which the compiler cannot know.
        let number = offset.checked_div(shape.stride).ok_or(EINVAL)?;
        if offset.checked_rem(shape.stride) != Some(0) || number >= shape.objects {
            return Err(EINVAL);
        }
        let noted = pages::note(start.pfn()).ok_or(EINVAL)?;
        let noted = usize::try_from(noted).map_err(|_| EINVAL)?;
        let place = Place {
            index: noted.checked_div(shape.entries).ok_or(EINVAL)?,
            slot: noted.checked_rem(shape.entries).ok_or(EINVAL)?,
        };
        // The note of a page that is another's says anything.
        let index = self.indexes.get(place.index).ok_or(EINVAL)?;
        let known =
            index.has_page(shape, place.slot, start) && index.is_used(shape, place.slot, number);
        match Frame::at(start) {
            Some(page) if known => Ok(Object {
                place,
                page,
                number,
            }),
            _ => Err(EINVAL),
        }
    }

    fn zero(&self, page: Frame, object: usize) {
        let words = self.shape.stride / WORD;
        page.clear(object * words, words);
        commit();
    }

    fn first_open(&self) -> Option<Place> {
        let index = self.open.first()?;
        let slot = self.indexes.get(index)?.first_open()?;
        Some(Place { index, slot })
    }

    fn set_open(&mut self, place: Place, on: bool) {
        if let Some(index) = self.indexes.get_mut(place.index) {
            let any = index.set_open(place.slot, on);
            self.open.set(place.index, any);
        }
    }

    /// Adds a page of free objects.
    fn add_page(&mut self) -> Result<Place> {
        // The page first: without it, a page of the index would be for nothing.
        let page = PreservedPage::new()?;
        let shape = self.shape;
        let number = match self.room.first() {
            Some(number) => number,
            None => self.add_index()?,
        };
        let index = self.indexes.get_mut(number).ok_or(EINVAL)?;
        let slot = index.vacant(&shape).ok_or(EINVAL)?;
        let place = Place {
            index: number,
            slot,
        };
        let page = page.keep();
        let entry = entry_number(&shape, place);
        pages::set_note(page.phys().pfn(), entry);
        index.enter(&shape, slot, entry, page);
        self.room.set(number, index.pages < shape.entries);
        self.open.set(number, true);
        Ok(place)
    }

    /// Adds a page to the index, at its end.
    fn add_index(&mut self) -> Result<usize> {
        let number = self.indexes.len();
        self.indexes.reserve(1, GFP_KERNEL)?;
        self.open.grow(number)?;
        self.room.grow(number)?;
        let frame = PreservedPage::new()?.keep();
        frame.set_word(SEAL, seal(self.handle(), frame.phys(), number));
        self.indexes
            .push(Index::new(frame), GFP_KERNEL)
            .inspect_err(|_| drop(PreservedPage::of(frame)))?;
        commit();
        self.link(number, link::to(frame, number as u64));
        self.room.set(number, true);
        Ok(number)
    }

    /// Writes the link to page `number` of the index, where it belongs.
    fn link(&mut self, number: usize, link: u64) {
        match number.checked_sub(1).and_then(|n| self.indexes.get(n)) {
            Some(before) => before.frame.set_word(NEXT, link),
            None => self.root.frame().set_word(FIRST, link),
        }
    }

    /// Gives back a page none of whose objects is allocated, and the pages at the end of the index
    /// that have nothing any more.
    fn remove_page(&mut self, place: Place, page: Frame) {
        let shape = self.shape;
        self.last = None;
        if let Some(index) = self.indexes.get_mut(place.index) {
            index.remove(&shape, place.slot);
            let any = index.open.iter().any(|word| *word != 0);
            self.open.set(place.index, any);
            self.room.set(place.index, true);
        }
        give_back(page);
        while self.indexes.last().is_some_and(|index| index.pages == 0) {
            let Some(index) = self.indexes.pop() else {
                return;
            };
            let number = self.indexes.len();
            self.link(number, 0);
            commit();
            self.open.set(number, false);
            self.room.set(number, false);
            drop(PreservedPage::of(index.frame));
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Nothing leads to the pages any more when they go, should the machine stop meanwhile.
        self.root.frame().set_word(FIRST, 0);
        commit();
        for index in self.indexes.iter() {
            for slot in 0..self.shape.entries {
                if let Some(page) = index.page(&self.shape, slot) {
                    give_back(page);
                }
            }
            drop(PreservedPage::of(index.frame));
        }
    }
}

/// The number of an entry among all of the index.
fn entry_number(shape: &Shape, place: Place) -> u64 {
    (place.index * shape.entries + place.slot) as u64
}

/// Gives a page of objects to the page allocator.
fn give_back(page: Frame) {
    pages::set_note(page.phys().pfn(), 0);
    drop(PreservedPage::of(page));
}

/// The address at an offset in a page.
fn at(page: Frame, offset: usize) -> PhysAddr {
    debug_assert!(offset < PAGE);
    let start: Pfn = page.phys().pfn();
    PhysAddr::new(start.phys().raw() + offset as u64)
}
