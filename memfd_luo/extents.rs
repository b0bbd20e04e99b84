// SPDX-License-Identifier: GPL-2.0

//! The bytes of "memfd-v3": a header of one page, and an array of extents, three words each.
//!
//! All are words of 64 bits in the machine's byte order. Documentation/abi.rst has the tables.

use super::format::{bits, seal, Refusal, MOST};
use super::table::Entry;
use super::Run;
use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::checksum::Sum;
use crate::kho::vmalloc::Descriptor;
use crate::sys::layout::{field, fingerprint};
use crate::sys::{declare::Declared, declare_format, Frame, PAGE_SHIFT};

declare_format! {
    /// The format of a memfd's record, version 3.
    FORMAT = Declared::compatible(b"memfd-v3", "rw", LAYOUT);
}

const LAYOUT: u32 = fingerprint(&[
    &[
        field("size", 0, 8),
        field("pos", 8, 8),
        field("seals", 16, 4),
        field("mode", 20, 4),
        field("flags", 24, 4),
        field("name_length", 28, 1),
        field("page_order", 29, 3),
        field("extents", 32, 8),
        field("pages", 40, 8),
        field("area", 48, 16),
        field("checksum", SUMMED * 8, 8),
        field("name", NAME_AT * 8, NAME_WORDS * 8),
    ],
    &[
        field("index", 0, 8),
        field("pfn", 8, 8),
        field("count", 16, 6),
        field("order", 22, 1),
        field("filled", 23, 1),
    ],
]);

/// Most bytes of a name: what memfd_create(2) takes.
pub(crate) const NAME: usize = 249;

/// The word where the name begins, and how many words it has room in.
const NAME_AT: usize = 16;
const NAME_WORDS: usize = 32;

/// Words of the header before the checksum.
const SUMMED: usize = 8;

/// Bits of a mode that are kept: permissions, and set-id and sticky bits.
const MODE: u32 = 0o7777;

/// The name of a file, without the NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    len: u8,
    words: [u64; NAME_WORDS],
}

impl Name {
    /// A name of these bytes, cut to what there is room for.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(NAME);
        let mut words = [0; NAME_WORDS];
        let parts = bytes.get(..len).unwrap_or_default().chunks(8);
        for (word, part) in words.iter_mut().zip(parts) {
            let mut value = [0; 8];
            value
                .iter_mut()
                .zip(part)
                .for_each(|(to, from)| *to = *from);
            *word = u64::from_ne_bytes(value);
        }
        Self {
            len: u8::try_from(len).unwrap_or(0),
            words,
        }
    }

    /// Its bytes; no NUL among them, once it was judged.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let all = self.words.iter().flat_map(|word| word.to_ne_bytes());
        all.take(self.len.into())
    }
}

/// The header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) size: u64,
    pub(crate) pos: u64,
    pub(crate) seals: u32,
    pub(crate) mode: u32,
    /// None is known; must be zero.
    pub(crate) flags: u32,
    /// Order of the file's pages: 0, room for huge pages.
    pub(crate) page_order: u32,
    pub(crate) extents: u64,
    /// Pages in all extents.
    pub(crate) held: u64,
    /// Where the extents are; all zero without any.
    pub(crate) area: Descriptor,
    pub(crate) name: Name,
}

impl Header {
    fn encode(&self) -> [u64; SUMMED] {
        let low_high = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [
            self.size,
            self.pos,
            low_high(self.seals, self.mode),
            low_high(self.flags, self.page_order << 8 | u32::from(self.name.len)),
            self.extents,
            self.held,
            self.area.first.raw(),
            u64::from(self.area.total_pages)
                | u64::from(self.area.flags) << 32
                | u64::from(self.area.order) << 48,
        ]
    }

    /// Writes it, and the checksum of it and its extents.
    pub(crate) fn store(&self, to: Frame, extents: impl Iterator<Item = Run>) {
        for (index, word) in self.encode().into_iter().enumerate() {
            to.set_word(index, word);
        }
        to.set_word(SUMMED, self.sum(extents));
        for (index, word) in self.name.words.into_iter().enumerate() {
            to.set_word(NAME_AT + index, word);
        }
    }

    /// Reads it, and the checksum recorded for it.
    pub(crate) fn load(from: Frame) -> (Self, u64) {
        let [size, pos, seals, flags, extents, held, first, area] =
            core::array::from_fn(|index| from.word(index));
        let shape = bits(flags, 32, 32);
        let header = Self {
            size,
            pos,
            seals: bits(seals, 0, 32),
            mode: bits(seals, 32, 32),
            flags: bits(flags, 0, 32),
            page_order: shape >> 8,
            extents,
            held,
            area: Descriptor {
                first: PhysAddr::new(first),
                total_pages: bits(area, 0, 32),
                flags: u16::try_from(bits(area, 32, 16)).unwrap_or(0),
                order: u16::try_from(bits(area, 48, 16)).unwrap_or(0),
            },
            name: Name {
                len: u8::try_from(shape & 0xff).unwrap_or(0),
                words: core::array::from_fn(|index| from.word(NAME_AT + index)),
            },
        };
        (header, from.word(SUMMED))
    }

    /// The checksum of the header, the name, and the extents.
    pub(crate) fn sum(&self, extents: impl Iterator<Item = Run>) -> u64 {
        let mut sum = Sum::new();
        self.encode().into_iter().for_each(|word| sum.add(word));
        self.name.words.into_iter().for_each(|word| sum.add(word));
        for extent in extents {
            encode(&extent).into_iter().for_each(|word| sum.add(word));
        }
        sum.value()
    }

    /// Pages the file has, the last one counted whole.
    pub(crate) const fn pages(&self) -> u64 {
        self.size.div_ceil(1 << PAGE_SHIFT)
    }

    /// Whether this can be a file at all. Says nothing of the extents.
    pub(crate) fn judge(&self) -> Result<(), Refusal> {
        let room = u64::from(self.area.total_pages).saturating_mul(Run::PER_PAGE);
        match self {
            _ if self.seals & !seal::ALL != 0 => Err(Refusal::unknown("a seal is unknown")),
            _ if self.flags != 0 => Err(Refusal::unknown("a flag is unknown")),
            _ if self.page_order != 0 => Err(Refusal::unknown("its pages are huge")),
            _ if self.mode & !MODE != 0 => Err(Refusal::lie("the mode is more than permissions")),
            _ if self.size > MOST => Err(Refusal::lie("the size is beyond what files can have")),
            _ if self.pos > MOST => Err(Refusal::lie("the position is beyond what files can have")),
            _ if usize::from(self.name.len) > NAME => Err(Refusal::lie("the name is too long")),
            _ if self.name.bytes().any(|byte| byte == 0) => {
                Err(Refusal::lie("there is a NUL in the name"))
            }
            _ if self.extents > room => Err(Refusal::lie("there are more extents than records")),
            _ => Ok(()),
        }
    }
}

/// Bits of an extent's last word: the number of folios, their order, whether they hold data.
const ORDER_AT: u32 = 48;
const FILLED: u64 = 1 << 56;
const COUNT: u64 = (1 << ORDER_AT) - 1;

fn encode(extent: &Run) -> [u64; 3] {
    let filled = if extent.filled { FILLED } else { 0 };
    let order = u64::from(extent.order.raw()) << ORDER_AT;
    [
        extent.index,
        extent.pfn.raw(),
        extent.count & COUNT | order | filled,
    ]
}

impl Entry for Run {
    const WORDS: usize = 3;

    fn store(&self, page: Frame, at: usize) {
        for (word, value) in encode(self).into_iter().enumerate() {
            page.set_word(at + word, value);
        }
    }

    fn load(page: Frame, at: usize) -> Option<Self> {
        let [index, pfn, shape] = core::array::from_fn(|word| page.word(at + word));
        let order = Order::new(bits(shape, ORDER_AT, 8));
        // An impossible value becomes an empty run, which the reader refuses.
        let known = shape & !(COUNT | 0xff << ORDER_AT | FILLED) == 0 && pfn <= Pfn::LIMIT;
        Some(Self {
            index,
            pfn: Pfn::new(pfn),
            order: order.unwrap_or(Order::ZERO),
            count: match order {
                Some(_) if known => shape & COUNT,
                _ => 0,
            },
            filled: shape & FILLED != 0,
        })
    }
}
