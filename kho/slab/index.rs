// SPDX-License-Identifier: GPL-2.0

//! A page of a cache's index: a link to the next one, a seal, and entries.
//!
//! An entry is the link to a page of objects, zero if there is none, and a bit for each of its
//! objects, set if that is allocated. Links say which entry they stand in, and the seal which page
//! of which index this is, so that none is taken for another.

use super::shape::Shape;
pub(crate) use super::shape::{HEADER, NEXT, SEAL};
use crate::kho::addr::PhysAddr;
use crate::kho::checksum::Sum;
use crate::kho::link::{self, commit};
use crate::sys::Frame;

/// A page of the index.
#[derive(Clone, Copy)]
pub(crate) struct Index {
    pub(crate) frame: Frame,
    /// Entries that have a page with a free object, one bit each.
    pub(crate) open: [u64; 4],
    /// Entries that have a page.
    pub(crate) pages: usize,
}

/// Computes the seal of a page from the root, the page's address and its number.
pub(crate) fn seal(root: PhysAddr, at: PhysAddr, number: usize) -> u64 {
    let mut sum = Sum::new();
    [
        root.raw(),
        at.raw(),
        number as u64,
        u64::from_ne_bytes(*b"kho-slab"),
    ]
    .into_iter()
    .for_each(|word| sum.add(word));
    sum.value()
}

impl Index {
    /// A page of which nothing is known.
    pub(crate) fn new(frame: Frame) -> Self {
        Self {
            frame,
            open: [0; 4],
            pages: 0,
        }
    }

    /// The word of an entry that has its link.
    pub(crate) fn word_of(shape: &Shape, slot: usize) -> usize {
        HEADER + slot * shape.entry
    }

    /// The page of objects of an entry.
    pub(crate) fn page(&self, shape: &Shape, slot: usize) -> Option<Frame> {
        link::target(self.frame.word(Self::word_of(shape, slot)))
    }

    /// An entry without a page.
    pub(crate) fn vacant(&self, shape: &Shape) -> Option<usize> {
        // Where it is unless pages were given back.
        let likely = self.pages.min(shape.entries);
        let mut slots = (likely..shape.entries).chain(0..likely);
        slots.find(|&slot| self.frame.word(Self::word_of(shape, slot)) == 0)
    }

    /// Enters a page, none of whose objects is allocated; `number` is that of the entry among all.
    pub(crate) fn enter(&mut self, shape: &Shape, slot: usize, number: u64, page: Frame) {
        let at = Self::word_of(shape, slot);
        self.frame.set_word(at, link::to(page, number));
        // Before any of its objects is allocated.
        commit();
        self.pages += 1;
        self.set_open(slot, true);
    }

    /// Takes out a page, none of whose objects is allocated any more.
    pub(crate) fn remove(&mut self, shape: &Shape, slot: usize) {
        self.frame.set_word(Self::word_of(shape, slot), 0);
        commit();
        self.pages = self.pages.saturating_sub(1);
        self.set_open(slot, false);
    }

    /// Takes note whether an entry has a page with a free object.
    pub(crate) fn set_open(&mut self, slot: usize, on: bool) {
        if let Some(word) = self.open.get_mut(slot / 64) {
            let mask = 1 << (slot % 64);
            *word = if on { *word | mask } else { *word & !mask };
        }
    }

    /// The first entry that has a page with a free object.
    pub(crate) fn first_open(&self) -> Option<usize> {
        let at = self.open.iter().position(|word| *word != 0)?;
        let word = self.open.get(at)?;
        Some(at * 64 + word.trailing_zeros() as usize)
    }

    /// Whether any entry has a page with a free object.
    pub(crate) fn any_open(&self) -> bool {
        self.open.iter().any(|word| *word != 0)
    }

    /// Whether no other entry has a page with a free object.
    pub(crate) fn is_only_open(&self, slot: usize) -> bool {
        let others = self
            .open
            .iter()
            .zip(0..)
            .map(|(word, at)| match at == slot / 64 {
                true => word & !(1 << (slot % 64)),
                false => *word,
            });
        others.into_iter().all(|word| word == 0)
    }

    /// The first word of an entry's that stands for a free object, and the first object that it
    /// stands for.
    pub(crate) fn first_free(&self, shape: &Shape, slot: usize) -> Option<(usize, usize)> {
        let at = Self::word_of(shape, slot) + 1;
        let mut words = 0..shape.entry - 1;
        let word = words.find(|word| !self.frame.word(at + word) & shape.mask(*word) != 0)?;
        Some((at + word, word * 64))
    }

    /// The first allocated object of an entry's page, from `from` on.
    pub(crate) fn first_used(&self, shape: &Shape, slot: usize, from: usize) -> Option<usize> {
        let at = Self::word_of(shape, slot) + 1;
        (from / 64..shape.entry - 1).find_map(|word| {
            let keep = match word == from / 64 {
                true => u64::MAX << (from % 64),
                false => u64::MAX,
            };
            let used = self.frame.word(at + word) & keep;
            (used != 0).then(|| word * 64 + used.trailing_zeros() as usize)
        })
    }
}
