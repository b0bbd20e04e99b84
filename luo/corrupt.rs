// SPDX-License-Identifier: GPL-2.0

//! Spoils LUO's records in a handover, on demand: the part of `kho/corrupt.rs` that knows "luo-v5".
//!
//! It changes bytes after all was serialised, as the next kernel will read them. The victim is the
//! second session; of its files, the second; of the FLBs, the first.

use core::ffi::CStr;

use crate::kho::addr::PhysAddr;
use crate::kho::block;
use crate::kho::corrupt::{corruptions, page_of, NOWHERE};
use crate::kho::fdt::RootFdt;
use crate::kho::tree::NodeStore;
use crate::sys::error::{Result, ENOENT, ENOMEM};
use crate::sys::pages::BuddyNodes;
use crate::sys::{Frame, FRAME_WORDS};

/// Name of LUO's subtree.
const ENTRY: &CStr = c"LUO";

/// Where things stand, in words: `struct luo_ser`.
mod state {
    pub(super) const COMPATIBLE: usize = 0;
    pub(super) const SESSIONS: usize = 2;
    pub(super) const FLBS: usize = 3;
    pub(super) const BYTES: u64 = 32;
}

/// `struct luo_session_ser`.
mod session {
    use super::Table;

    pub(super) const NAME_WORDS: usize = 8;
    pub(super) const FILES: usize = 8;
    pub(super) const COUNT: usize = 9;
    pub(super) const TABLE: Table = Table {
        header: 2,
        record: 10,
    };
}

/// `struct luo_file_ser`.
mod file {
    use super::Table;

    pub(super) const COMPATIBLE_WORDS: usize = 6;
    pub(super) const TOKEN: usize = 7;
    pub(super) const TABLE: Table = Table {
        header: 2,
        record: 8,
    };
}

/// `struct luo_flb_header_ser`, and `struct luo_flb_ser` after it.
mod flb {
    use super::Table;

    pub(super) const PAGES: usize = 0;
    pub(super) const COUNT: usize = 1;
    pub(super) const NAME_WORDS: usize = 6;
    pub(super) const REFERENCES: usize = 7;
    pub(super) const TABLE: Table = Table {
        header: 2,
        record: 8,
    };
}

corruptions! {
    /// The state is of a version that nobody knows.
    LuoCompatible = "luo-compatible",
    /// The subtree is a byte shorter than the state.
    LuoShort = "luo-short",
    /// The sessions are past the end of memory.
    SessionsWild = "sessions-wild",
    /// The sessions are in a page that is not preserved.
    SessionsUnpreserved = "sessions-unpreserved",
    /// The victim's name does not end.
    SessionNameUnterminated = "session-name-unterminated",
    /// The victim has no name.
    SessionNameEmpty = "session-name-empty",
    /// The last session has the victim's name.
    SessionDuplicate = "session-duplicate",
    /// The last block of sessions links to the first.
    SessionCycle = "session-cycle",
    /// The first block of sessions says that it has one more than fit.
    SessionCountHuge = "session-count-huge",
    /// The first block of sessions says that it has none.
    SessionCountZero = "session-count-zero",
    /// The victim's files are past the end of memory.
    FilesWild = "files-wild",
    /// The last block of the victim's files links to the first.
    FilesCycle = "files-cycle",
    /// The first block of the victim's files says that it has 2^63.
    BlockCount = "block-count",
    /// The victim says that it has one more file than its blocks.
    FilesCount = "files-count",
    /// The name of a file's handler does not end.
    FileCompatUnterminated = "file-compat-unterminated",
    /// A file's handler is one that nobody has.
    FileUnknownHandler = "file-unknown-handler",
    /// Two files of the victim have the same token.
    TokenDuplicate = "token-duplicate",
    /// There are 2^40 FLBs.
    FlbCountHuge = "flb-count-huge",
    /// The FLBs fill 2^40 pages.
    FlbPages = "flb-pages",
    /// No file needs an FLB that is there.
    FlbRefZero = "flb-ref-zero",
    /// 2^40 files need an FLB.
    FlbRefHuge = "flb-ref-huge",
    /// The name of an FLB does not end.
    FlbNameUnterminated = "flb-name-unterminated",
    /// The FLBs are past the end of memory.
    FlbWild = "flb-wild",
}

/// Which record is the one to spoil.
const VICTIM: usize = 1;

/// More than any table holds.
const HUGE: u64 = 1 << 40;

/// A version, and a handler, that do not exist.
const UNKNOWN: u64 = u64::from_ne_bytes(*b"luo-v99\0");

impl Corruption {
    /// Spoils the outgoing handover.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] when nothing of the kind is preserved, [`ENOMEM`].
    pub(crate) fn apply(self, fdt: &mut RootFdt) -> Result {
        let luo = page_of(fdt.page().frame(), ENTRY)?;
        match self {
            Self::LuoCompatible => luo.set_word(state::COMPATIBLE, UNKNOWN),
            Self::LuoShort => {
                fdt.remove(luo.phys());
                fdt.add(ENTRY, luo.phys(), state::BYTES - 1)?;
            }
            Self::SessionsWild => luo.set_word(state::SESSIONS, NOWHERE),
            Self::SessionsUnpreserved => {
                let from = first_block(luo, state::SESSIONS)?;
                let to = BuddyNodes.alloc().ok_or(ENOMEM)?;
                (0..FRAME_WORDS).for_each(|word| to.set_word(word, from.word(word)));
                luo.set_word(state::SESSIONS, to.phys().raw());
            }
            Self::SessionNameUnterminated => sessions(luo)?.unterminate(0, session::NAME_WORDS),
            Self::SessionNameEmpty => {
                let victim = sessions(luo)?;
                (0..session::NAME_WORDS).for_each(|word| victim.set(word, 0));
            }
            Self::SessionDuplicate => {
                let victim = sessions(luo)?;
                let last = session::TABLE.last(last_block(first_block(luo, state::SESSIONS)?))?;
                if last == victim {
                    return Err(ENOENT);
                }
                (0..session::NAME_WORDS).for_each(|word| last.set(word, victim.get(word)));
            }
            Self::SessionCycle => close_chain(first_block(luo, state::SESSIONS)?),
            Self::SessionCountHuge => {
                let fit = session::TABLE.capacity();
                block::set_count(first_block(luo, state::SESSIONS)?, fit + 1);
            }
            Self::SessionCountZero => block::set_count(first_block(luo, state::SESSIONS)?, 0),
            Self::FilesWild => sessions(luo)?.set(session::FILES, NOWHERE),
            Self::FilesCycle => close_chain(files_of(sessions(luo)?)?),
            Self::BlockCount => block::set_count(files_of(sessions(luo)?)?, 1 << 63),
            Self::FilesCount => {
                let victim = sessions(luo)?;
                victim.set(session::COUNT, victim.get(session::COUNT) + 1);
            }
            Self::FileCompatUnterminated => {
                files(luo, VICTIM)?.unterminate(0, file::COMPATIBLE_WORDS);
            }
            Self::FileUnknownHandler => files(luo, VICTIM)?.set(0, UNKNOWN),
            Self::TokenDuplicate => {
                let token = files(luo, 0)?.get(file::TOKEN);
                files(luo, VICTIM)?.set(file::TOKEN, token);
            }
            Self::FlbCountHuge => flbs(luo)?.set_word(flb::COUNT, HUGE),
            Self::FlbPages => flbs(luo)?.set_word(flb::PAGES, HUGE),
            Self::FlbRefZero => flb::TABLE.record(flbs(luo)?, 0)?.set(flb::REFERENCES, 0),
            Self::FlbRefHuge => flb::TABLE.record(flbs(luo)?, 0)?.set(flb::REFERENCES, HUGE),
            Self::FlbNameUnterminated => {
                (flb::TABLE.record(flbs(luo)?, 0)?).unterminate(0, flb::NAME_WORDS);
            }
            Self::FlbWild => luo.set_word(state::FLBS, NOWHERE),
        }
        Ok(())
    }
}

/// How records lie in a page, in words: a header of which the second word counts them, and they.
struct Table {
    header: usize,
    record: usize,
}

impl Table {
    /// Records that fit.
    const fn capacity(&self) -> u64 {
        block::records_per_block(self.record * 8)
    }

    /// One of the records there are.
    fn record(&self, page: Frame, number: usize) -> Result<Record> {
        let there = usize::try_from(block::count(page)).map_err(|_| ENOENT)?;
        if number >= there {
            return Err(ENOENT);
        }
        let first = self.header + number * self.record;
        Ok(Record { page, first })
    }

    fn last(&self, page: Frame) -> Result<Record> {
        let there = usize::try_from(block::count(page)).map_err(|_| ENOENT)?;
        self.record(page, there.checked_sub(1).ok_or(ENOENT)?)
    }
}

/// A record in a page.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Record {
    page: Frame,
    first: usize,
}

impl Record {
    fn get(self, word: usize) -> u64 {
        self.page.word(self.first + word)
    }

    fn set(self, word: usize, value: u64) {
        self.page.set_word(self.first + word, value);
    }

    /// Puts a letter in the place of each NUL of a string of `words`.
    fn unterminate(self, string: usize, words: usize) {
        for word in string..string + words {
            let bytes = self.get(word).to_ne_bytes();
            let filled = bytes.map(|byte| if byte == 0 { b'x' } else { byte });
            self.set(word, u64::from_ne_bytes(filled));
        }
    }
}

fn page_at(address: u64) -> Result<Frame> {
    Frame::at(PhysAddr::new(address)).ok_or(ENOENT)
}

fn first_block(luo: Frame, word: usize) -> Result<Frame> {
    page_at(luo.word(word))
}

/// The victim among the sessions.
fn sessions(luo: Frame) -> Result<Record> {
    session::TABLE.record(first_block(luo, state::SESSIONS)?, VICTIM)
}

/// The first block of a session's files.
fn files_of(session: Record) -> Result<Frame> {
    page_at(session.get(session::FILES))
}

/// One of the victim's files.
fn files(luo: Frame, number: usize) -> Result<Record> {
    file::TABLE.record(files_of(sessions(luo)?)?, number)
}

/// The page of FLBs.
fn flbs(luo: Frame) -> Result<Frame> {
    page_at(luo.word(state::FLBS))
}

fn last_block(first: Frame) -> Frame {
    let mut last = first;
    for _ in 0..block::MAX_BLOCKS {
        match Frame::at(block::next(last)) {
            Some(next) => last = next,
            None => break,
        }
    }
    last
}

/// Makes a chain of blocks a ring.
fn close_chain(first: Frame) {
    block::set_next(last_block(first), first.phys());
}
