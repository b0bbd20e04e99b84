// SPDX-License-Identifier: GPL-2.0

//! A shard: a page of the index with the pages of objects entered there, under one lock.
//!
//! A CPU allocates from a shard of its own, so that no other wants its lock but to free an object
//! that was allocated there.

use super::index::Index;
use super::shape::{Shape, WORD};
use super::spot::{Mark, Marks, Spot};
use crate::kho::addr::PhysAddr;
use crate::kho::link::commit;
use crate::kho::page::PreservedPage;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Result, EINVAL};
use crate::sys::pages::{self, Somewhere};
use crate::sys::Frame;

/// Bits of a page's note for the entry in the shard, and for the shard's place in its bucket; those
/// above are the bucket's number.
const SLOT_BITS: u32 = 8;
const AT_BITS: u32 = 48;

/// The note in the struct page of a page of objects.
fn note(number: usize, slot: usize) -> u64 {
    let Spot { bucket, at } = Spot::of(number);
    (bucket as u64) << (AT_BITS + SLOT_BITS) | (at as u64) << SLOT_BITS | slot as u64
}

/// The shard and the entry that a note names; anything, for a page of somebody else's.
#[inline(always)]
pub(super) fn noted(note: u64) -> (Spot, usize) {
    let bucket = (note >> (AT_BITS + SLOT_BITS)) as usize;
    let at = (note >> SLOT_BITS & ((1 << AT_BITS) - 1)) as usize;
    (
        Spot { bucket, at },
        (note & ((1 << SLOT_BITS) - 1)) as usize,
    )
}

/// An object that is allocated: where it is in which page.
#[derive(Clone, Copy)]
#[cfg_attr(not(kernel), derive(Debug, PartialEq, Eq))]
pub(crate) struct Object {
    pub(crate) page: Frame,
    pub(crate) offset: usize,
}

impl Object {
    pub(crate) fn phys(self) -> PhysAddr {
        PhysAddr::new(self.page.phys().raw() + self.offset as u64)
    }
}

/// Where an object would be, by its address: which of a page, that may be anybody's.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) at: Somewhere,
    pub(super) slot: usize,
    pub(super) number: usize,
}

/// The word of the index that says what of a page is allocated, from where objects are taken.
#[derive(Clone, Copy)]
struct Hot {
    page: Frame,
    slot: usize,
    /// The word's number in the page of the index.
    word: usize,
    /// The first object it stands for.
    first: usize,
    /// Its bits that stand for objects.
    mask: u64,
}

/// # Invariants
///
/// The pages entered in the index are this shard's, and preserved; their notes say which entry that
/// is. Free objects are zero, unless the kernel that left them was broken.
pub(super) struct Shard {
    number: usize,
    /// `None` for a shard that is not in the chain any more, or not yet.
    index: Option<Index>,
    /// Objects that are allocated.
    pub(super) used: u64,
    /// A CPU allocates here, and others keep away. It may be wrong for a while, which costs time
    /// only.
    pub(super) owned: bool,
    /// The node that its pages are on, or the first of them.
    pub(super) node: i32,
    /// The page of each entry: what the index says too, but found faster.
    pages: KVVec<Option<Frame>>,
    hot: Option<Hot>,
    /// The marks it has.
    open: bool,
    room: bool,
}

impl Shard {
    pub(super) const fn new(number: usize) -> Self {
        Self {
            number,
            index: None,
            used: 0,
            owned: false,
            node: 0,
            pages: KVVec::new(),
            hot: None,
            open: false,
            room: false,
        }
    }

    /// Memory for [`Self::put`], which cannot ask for it: a place for each entry's page.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn memory(shape: &Shape) -> Result<KVVec<Option<Frame>>> {
        let mut pages = KVVec::with_capacity(shape.entries, GFP_KERNEL)?;
        for _ in 0..shape.entries {
            pages.push(None, GFP_KERNEL)?;
        }
        Ok(pages)
    }

    /// Puts it into the chain, with the pages that are entered in `index`, and so many objects
    /// there. Returns the memory that it had for that before.
    pub(super) fn put(
        &mut self,
        shape: &Shape,
        index: Index,
        used: u64,
        memory: KVVec<Option<Frame>>,
    ) -> KVVec<Option<Frame>> {
        let before = core::mem::replace(&mut self.pages, memory);
        self.index = Some(index);
        self.used = used;
        self.hot = None;
        let mut node = None;
        for (slot, entered) in self.pages.iter_mut().enumerate() {
            *entered = index.page(shape, slot);
            if let Some(page) = entered {
                let pfn = page.phys().pfn();
                pages::set_note(pfn, note(self.number, slot));
                node = node.or_else(|| Some(pages::node_of(pfn)));
            }
        }
        self.node = node.unwrap_or(0);
        before
    }

    /// Takes it out of the chain, if it has no page of objects and no owner.
    pub(super) fn take(&mut self, shape: &Shape, table: &impl Marks) -> Option<Frame> {
        self.index.filter(|index| index.pages == 0 && !self.owned)?;
        let index = self.index.take();
        self.remark(shape, table);
        Some(index?.frame)
    }

    pub(super) fn frame(&self) -> Option<Frame> {
        Some(self.index.as_ref()?.frame)
    }

    pub(super) fn has_room(&self, shape: &Shape) -> bool {
        let index = self.index.as_ref();
        index.is_some_and(|index| index.pages < shape.entries)
    }

    pub(super) fn is_open(&self) -> bool {
        self.index.as_ref().is_some_and(Index::any_open)
    }

    /// Has its marks say what is so now.
    pub(super) fn remark(&mut self, shape: &Shape, table: &impl Marks) {
        let open = self.is_open() && !self.owned;
        let room = self.has_room(shape) && !self.owned;
        if core::mem::replace(&mut self.open, open) != open {
            table.mark(Mark::Open, self.number, open);
        }
        if core::mem::replace(&mut self.room, room) != room {
            table.mark(Mark::Room, self.number, room);
        }
    }

    /// Whether it is nobody's, and has no mark that says that it has a free object.
    pub(super) fn is_unmarked(&self) -> bool {
        !self.owned && !self.open
    }

    /// Allocates an object, if one is free.
    #[inline]
    pub(super) fn alloc(&mut self, shape: &Shape) -> Option<Object> {
        loop {
            if let Some((hot, index)) = self.hot.as_ref().zip(self.index.as_ref()) {
                let used = index.frame.word(hot.word);
                let free = !used & hot.mask;
                if free != 0 {
                    index
                        .frame
                        .set_word(hot.word, used | (free & free.wrapping_neg()));
                    self.used += 1;
                    let object = hot.first + free.trailing_zeros() as usize;
                    let offset = object * shape.stride;
                    let page = hot.page;
                    return Some(Object { page, offset });
                }
            }
            self.heat(shape)?;
        }
    }

    /// Looks for a word of the index with a free object.
    #[cold]
    #[inline(never)]
    fn heat(&mut self, shape: &Shape) -> Option<()> {
        let index = self.index.as_mut()?;
        loop {
            let slot = index.first_open()?;
            let page = self.pages.get(slot).copied().flatten()?;
            if let Some((word, first)) = index.first_free(shape, slot) {
                let mask = shape.mask(first / 64);
                self.hot = Some(Hot {
                    page,
                    slot,
                    word,
                    first,
                    mask,
                });
                return Some(());
            }
            // Full: it was the last one's turn to say so.
            index.set_open(slot, false);
        }
    }

    /// Enters a page, which the caller has as long as that fails.
    pub(super) fn enter(
        &mut self,
        shape: &Shape,
        page: PreservedPage,
    ) -> Result<(), PreservedPage> {
        let vacant = self.index.as_ref().and_then(|index| index.vacant(shape));
        let Some((index, slot)) = self.index.as_mut().zip(vacant) else {
            return Err(page);
        };
        let page = page.keep();
        if let Some(entered) = self.pages.get_mut(slot) {
            *entered = Some(page);
        }
        pages::set_note(page.phys().pfn(), note(self.number, slot));
        index.enter(shape, slot, shape.entry_number(self.number, slot), page);
        Ok(())
    }

    /// The page an object is in, if it is allocated here; the page of the index and the word of it
    /// that says so, and what that is.
    #[inline(always)]
    fn locate(&self, shape: &Shape, place: Place) -> Option<(Frame, Frame, usize, u64)> {
        // The note of a page that is another's says anything.
        let page = self.pages.get(place.slot).copied().flatten()?;
        let index = self.index.as_ref().filter(|_| place.at.is_in(page))?;
        let word = Index::word_of(shape, place.slot) + 1 + place.number / 64;
        let used = index.frame.word(word);
        (used & 1 << (place.number % 64) != 0).then_some((page, index.frame, word, used))
    }

    /// The page an object is in, and where, if it is allocated here.
    pub(super) fn find(&self, shape: &Shape, place: Place) -> Option<Object> {
        let (page, ..) = self.locate(shape, place)?;
        let offset = place.number * shape.stride;
        Some(Object { page, offset })
    }

    /// Zeroes an object and frees it. Says whether its page has none now that is allocated.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for what is no object.
    #[inline(always)]
    pub(super) fn free(&mut self, shape: &Shape, place: Place) -> Result<bool> {
        let (page, index, word, used) = self.locate(shape, place).ok_or(EINVAL)?;
        zero(shape, page, place.number * shape.stride);
        let rest = used & !(1 << (place.number % 64));
        index.set_word(word, rest);
        self.used = self.used.wrapping_sub(1);
        let index = self.index.as_mut().ok_or(EINVAL)?;
        index.set_open(place.slot, true);
        Ok(rest == 0 && index.first_used(shape, place.slot, 0).is_none())
    }

    /// Takes out the page of an entry, if no object of it is allocated. The owning CPU keeps its
    /// last page with free objects, so that alternating alloc and free of one object does not
    /// allocate and free a page each time.
    pub(super) fn remove(&mut self, shape: &Shape, slot: usize) -> Option<PreservedPage> {
        let spare = self.owned;
        let index = self.index.as_mut()?;
        let page = self.pages.get(slot).copied().flatten()?;
        if index.first_used(shape, slot, 0).is_some() || (spare && index.is_only_open(slot)) {
            return None;
        }
        index.remove(shape, slot);
        if let Some(entered) = self.pages.get_mut(slot) {
            *entered = None;
        }
        self.hot = self.hot.filter(|hot| hot.slot != slot);
        pages::set_note(page.phys().pfn(), 0);
        Some(PreservedPage::of(page))
    }

    /// Takes out the next page that has no object, of the entries from `from` on, which then says
    /// where to go on.
    pub(super) fn remove_next(&mut self, shape: &Shape, from: &mut usize) -> Option<PreservedPage> {
        let mut slots = *from..self.pages.len();
        let found = slots.find_map(|slot| self.remove(shape, slot));
        *from = slots.start;
        found
    }

    /// Takes out the page of an entry, whatever is allocated there.
    pub(super) fn give_up(&mut self, slot: usize) -> Option<PreservedPage> {
        let page = self.pages.get_mut(slot)?.take()?;
        pages::set_note(page.phys().pfn(), 0);
        Some(PreservedPage::of(page))
    }

    /// Whether nothing is entered any more.
    pub(super) fn is_bare(&self) -> bool {
        self.index.as_ref().is_none_or(|index| index.pages == 0)
    }

    /// The first allocated object at an entry and a number in its page, or behind that, with its
    /// entry and number.
    pub(super) fn next(
        &self,
        shape: &Shape,
        slot: usize,
        from: usize,
    ) -> Option<(Object, usize, usize)> {
        let index = self.index.as_ref().filter(|index| index.pages != 0)?;
        (slot..shape.entries).find_map(|at| {
            let from = if at == slot { from } else { 0 };
            let object = index.first_used(shape, at, from)?;
            let (page, offset) = ((*self.pages.get(at)?)?, object * shape.stride);
            Some((Object { page, offset }, at, object))
        })
    }
}

/// Zeroes an object.
#[inline]
pub(super) fn zero(shape: &Shape, page: Frame, offset: usize) {
    page.clear(offset / WORD, shape.stride / WORD);
    commit();
}
