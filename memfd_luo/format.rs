// SPDX-License-Identifier: GPL-2.0

//! The bytes of "memfd-v2": a header, and an array of records, one a folio.
//!
//! Layout: include/linux/kho/abi/memfd.h. Both are words of 64 bits in the machine's byte order.

use super::table::Entry;
use crate::kho::addr::{Pfn, PhysAddr};
use crate::kho::vmalloc::Descriptor;
use crate::sys::error::{Error, EINVAL, EOPNOTSUPP};
use crate::sys::layout::{field, fingerprint};
use crate::sys::{declare::Declared, declare_format, Frame, PAGE_SHIFT};

declare_format! {
    /// The format of a memfd's record, version 2.
    FORMAT = Declared::compatible(b"memfd-v2", "rw", LAYOUT);
}

const LAYOUT: u32 = fingerprint(&[
    &[
        field("pos", 0, 8),
        field("size", 8, 8),
        field("seals", 16, 4),
        field("flags", 20, 4),
        field("nr_folios", 24, 8),
        field("folios", 32, 16),
    ],
    // A record: 52 bits of the first word are the frame, the rest flags.
    &[
        field("pfn", 0, Record::PFN_BITS as usize),
        field("index", 8, 8),
    ],
]);

/// Words of a header: 48 bytes.
const HEADER_WORDS: usize = 6;

/// The largest size and position a file can have: MAX_LFS_FILESIZE.
pub(super) const MOST: u64 = i64::MAX.unsigned_abs();

/// Seals of a memfd (include/uapi/linux/fcntl.h).
pub(crate) mod seal {
    pub(crate) const SEAL: u32 = 0x01;
    pub(crate) const SHRINK: u32 = 0x02;
    pub(crate) const GROW: u32 = 0x04;
    pub(crate) const WRITE: u32 = 0x08;
    pub(crate) const FUTURE_WRITE: u32 = 0x10;
    pub(crate) const EXEC: u32 = 0x20;
    /// Those that the format knows.
    pub(crate) const ALL: u32 = SEAL | SHRINK | GROW | WRITE | FUTURE_WRITE | EXEC;
    /// What F_SEAL_EXEC brings with it when the file may be executed.
    const IMPLIED: u32 = SHRINK | GROW | WRITE | FUTURE_WRITE;

    /// Whether a file with these seals comes back without execute permission. The format has no
    /// mode; but F_SEAL_EXEC without what it implies for executable files says that this was none.
    pub(crate) const fn no_exec(seals: u32) -> bool {
        seals & EXEC != 0 && seals & IMPLIED != IMPLIED
    }
}

/// A fault of a file, for the log and for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: &'static str,
    pub(crate) error: Error,
}

impl Refusal {
    /// Bytes that no kernel can have written in good faith.
    pub(crate) const fn lie(why: &'static str) -> Self {
        Self { why, error: EINVAL }
    }

    /// Something that this version does not know.
    pub(crate) const fn unknown(why: &'static str) -> Self {
        Self {
            why,
            error: EOPNOTSUPP,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            why: "the kernel could not take it in",
            error,
        }
    }
}

/// `struct memfd_luo_ser`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) pos: u64,
    pub(crate) size: u64,
    pub(crate) seals: u32,
    /// None is known; must be zero.
    pub(crate) flags: u32,
    pub(crate) folios: u64,
    /// Where the records are; all zero without any.
    pub(crate) records: Descriptor,
}

impl Header {
    fn encode(&self) -> [u64; HEADER_WORDS] {
        let low_high = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let records = &self.records;
        [
            self.pos,
            self.size,
            low_high(self.seals, self.flags),
            self.folios,
            records.first.raw(),
            u64::from(records.total_pages)
                | u64::from(records.flags) << 32
                | u64::from(records.order) << 48,
        ]
    }

    fn decode(words: [u64; HEADER_WORDS]) -> Self {
        let [pos, size, seals, folios, first, area] = words;
        Self {
            pos,
            size,
            seals: bits(seals, 0, 32),
            flags: bits(seals, 32, 32),
            folios,
            records: Descriptor {
                first: PhysAddr::new(first),
                total_pages: bits(area, 0, 32),
                flags: u16::try_from(bits(area, 32, 16)).unwrap_or(0),
                order: u16::try_from(bits(area, 48, 16)).unwrap_or(0),
            },
        }
    }

    pub(crate) fn store(&self, to: Frame) {
        for (index, word) in self.encode().into_iter().enumerate() {
            to.set_word(index, word);
        }
    }

    pub(crate) fn load(from: Frame) -> Self {
        Self::decode(core::array::from_fn(|index| from.word(index)))
    }

    /// Pages the file has, the last one counted whole.
    pub(crate) const fn pages(&self) -> u64 {
        self.size.div_ceil(1 << PAGE_SHIFT)
    }

    /// Whether this can be a file at all. Says nothing of the records.
    pub(crate) fn judge(&self) -> Result<(), Refusal> {
        let room = u64::from(self.records.total_pages).saturating_mul(Record::PER_PAGE);
        match self {
            _ if self.seals & !seal::ALL != 0 => Err(Refusal::unknown("a seal is unknown")),
            _ if self.flags != 0 => Err(Refusal::unknown("a flag is unknown")),
            _ if self.size > MOST => Err(Refusal::lie("the size is beyond what files can have")),
            _ if self.pos > MOST => Err(Refusal::lie("the position is beyond what files can have")),
            _ if self.folios > self.pages() => {
                Err(Refusal::lie("there are more folios than pages"))
            }
            _ if self.folios > room => Err(Refusal::lie("there are more folios than records")),
            _ => Ok(()),
        }
    }
}

/// `len` bits of a word from bit `from` on; `len` is 32 at most.
pub(super) fn bits(word: u64, from: u32, len: u32) -> u32 {
    u32::try_from((word >> from) & ((1 << len) - 1)).unwrap_or(0)
}

/// `struct memfd_luo_folio_ser`: a folio and its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) pfn: Pfn,
    pub(crate) flags: u64,
    pub(crate) index: u64,
}

impl Entry for Record {
    const WORDS: usize = 2;

    fn store(&self, page: Frame, at: usize) {
        for (word, value) in self.encode().into_iter().enumerate() {
            page.set_word(at | word, value);
        }
    }

    fn load(page: Frame, at: usize) -> Option<Self> {
        Self::decode([page.word(at), page.word(at | 1)])
    }
}

impl Record {
    /// It holds data that must not be dropped.
    pub(crate) const DIRTY: u64 = 1;
    /// It holds data at all; without it, it is to be zeroed before it is used.
    pub(crate) const UPTODATE: u64 = 2;
    /// Bits of a word that are the frame number; flags above it.
    const PFN_BITS: u32 = 52;

    pub(crate) const fn encode(&self) -> [u64; 2] {
        [self.pfn.raw() | self.flags << Self::PFN_BITS, self.index]
    }

    /// `None` for an entry that stands for no folio.
    pub(crate) const fn decode([word, index]: [u64; 2]) -> Option<Self> {
        let pfn = Pfn::new(word & ((1 << Self::PFN_BITS) - 1));
        if pfn.raw() == 0 {
            return None;
        }
        Some(Self {
            pfn,
            flags: word >> Self::PFN_BITS,
            index,
        })
    }
}
