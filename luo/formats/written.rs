// SPDX-License-Identifier: GPL-2.0

//! The list of formats that were written, which is part of the handover, and what the next kernel
//! makes of it.
//!
//! The list is a catalogue in a page of its own, named in the root FDT. Mainline neither writes nor
//! looks at it: there, what arrives says of itself what it is.

use core::ffi::CStr;

use super::catalogue::{
    checksum, magic, Catalogue, FORMAT, HEADER, NAME, READ, RECORD, VERSION, WRITE,
};
use super::id::Id;
use super::mainline;
use super::own::Own;
use crate::kho::addr::PhysAddr;
use crate::kho::block_chain::{claim_page, put_back};
use crate::kho::page::PreservedPage;
use crate::kho::state as handover;
use crate::luo::drivers::Drivers;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::Result;
use crate::sys::lock::Locked;
use crate::sys::{log, FRAME_WORDS, PAGE_SHIFT};

/// Name of the subtree.
pub(crate) const SUBTREE: &CStr = c"formats";

/// Bytes of the list, at most.
const BYTES: usize = 1 << PAGE_SHIFT;

/// Bytes of a word of a frame.
const WORD: usize = 8;

/// The list that this kernel hands over. Dropping it takes it off the list of subtrees.
pub(crate) struct Written {
    page: PreservedPage,
    /// The bytes for the page; they are copied when nothing may fail any more.
    buffer: KVVec<u8>,
}

impl Written {
    /// Makes an empty list.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also when the root FDT is full.
    pub(crate) fn publish() -> Result<Self> {
        let mut buffer = KVVec::with_capacity(BYTES, GFP_KERNEL)?;
        for _ in 0..BYTES {
            buffer.push(0, GFP_KERNEL)?;
        }
        let page = PreservedPage::new()?;
        handover::add_subtree(SUBTREE, page.frame().phys(), BYTES)?;
        Ok(Self { page, buffer })
    }

    /// Writes what KHO and the orchestrator write, and the formats that files are preserved in.
    pub(crate) fn write(&mut self, drivers: &Locked<Drivers>) {
        let mut list = Encoder::new(&mut self.buffer);
        for (name, version) in mainline::FORMATS
            .iter()
            .filter(|(name, _)| *name != "memfd")
        {
            if let Some(id) = Id::new(name, *version) {
                list.add(&id);
            }
        }
        super::structures::in_use().for_each(|format| list.add(&format));
        let mut last = None;
        loop {
            let next = drivers.lock().format_after(last.as_ref());
            let Some(format) = next else {
                break;
            };
            if drivers.lock().users(&format) > 0 {
                list.add(&format);
            }
            last = Some(format);
        }
        list.finish();
        let words = self.buffer.chunks_exact(WORD);
        for (at, word) in words.enumerate().take(FRAME_WORDS) {
            let word = word.try_into().map_or(0, u64::from_ne_bytes);
            self.page.frame().set_word(at, word);
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        handover::remove_subtree(self.page.frame().phys());
    }
}

/// A catalogue that is being built.
struct Encoder<'a> {
    bytes: &'a mut [u8],
    len: usize,
    count: u32,
    cut: bool,
}

impl<'a> Encoder<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        bytes.iter_mut().for_each(|byte| *byte = 0);
        Self {
            bytes,
            len: HEADER,
            count: 0,
            cut: false,
        }
    }

    fn put(&mut self, at: usize, from: &[u8]) {
        let to = self.bytes.iter_mut().skip(at);
        to.zip(from).for_each(|(to, from)| *to = *from);
    }

    fn add(&mut self, format: &Id) {
        if self.len + RECORD > self.bytes.len() {
            self.cut = true;
            return;
        }
        let at = self.len;
        self.put(at, &(RECORD as u16).to_le_bytes());
        self.put(at + 2, &FORMAT.to_le_bytes());
        self.put(at + 4, &WRITE.to_le_bytes());
        self.put(at + 8, &format.version.to_le_bytes());
        let name = format.name.text();
        self.put(
            at + 16,
            name.get(..name.len().min(NAME - 1)).unwrap_or_default(),
        );
        self.len += RECORD;
        self.count += 1;
    }

    fn finish(mut self) {
        if self.cut {
            log::pr_warn!("luo: there is no room to say all formats that were written\n");
        }
        self.put(0, &magic());
        self.put(16, &VERSION.to_le_bytes());
        self.put(20, &(HEADER as u32).to_le_bytes());
        self.put(24, &(self.len as u32).to_le_bytes());
        self.put(36, &self.count.to_le_bytes());
        let sum = checksum(self.bytes.get(..self.len).unwrap_or_default());
        self.put(28, &sum.to_le_bytes());
    }
}

/// This kernel's verdict on a format that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Readable,
    /// Readable, and this kernel has a newer version.
    Old,
    /// This kernel has other versions. What was written in it stays where it is, reserved.
    Unreadable,
    /// Nothing that is built in has to do with it; a module may.
    Unknown,
}

impl Verdict {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::Old => "readable, old",
            Self::Unreadable => "not readable",
            Self::Unknown => "unknown to what is built in",
        }
    }

    fn of(own: &Own, format: &Id) -> Self {
        let family = || own.list().iter().filter(|d| d.id.name == format.name);
        let reads = |d: &&super::own::Declared| d.access & READ != 0;
        if family().filter(reads).any(|d| d.id == *format) {
            let newest = family().all(|d| d.id.version <= format.version);
            return if newest { Self::Readable } else { Self::Old };
        }
        match family().next() {
            Some(_) => Self::Unreadable,
            None => Self::Unknown,
        }
    }
}

/// A format that arrived.
pub(crate) struct Arrival {
    pub(crate) format: Id,
    pub(crate) verdict: Verdict,
}

/// Judges a list of `size` bytes at an address. `trouble` is told what is wrong with it, and of
/// each format that cannot be read.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn read(
    own: &Own,
    at: PhysAddr,
    size: usize,
    mut trouble: impl FnMut(core::fmt::Arguments<'_>),
) -> Result<KVVec<Arrival>> {
    let mut bytes = KVVec::with_capacity(BYTES, GFP_KERNEL)?;
    let mut arrivals = KVVec::new();
    let Some(page) = claim_page(at) else {
        trouble(log::fmt!(
            "the list of formats at {:#x} is not preserved",
            at.raw()
        ));
        return Ok(arrivals);
    };
    // There is room: it is as large as a page.
    let words = (0..FRAME_WORDS).map(|word| page.word(word).to_ne_bytes());
    let filled = words
        .flatten()
        .take(size)
        .try_for_each(|byte| bytes.push(byte, GFP_KERNEL));
    // It stays where it is, reserved, as any subtree.
    put_back(page);
    filled?;
    let catalogue = match Catalogue::parse(&bytes) {
        Ok(catalogue) => catalogue,
        Err(fault) => {
            trouble(log::fmt!(
                "the list of formats is damaged: {}",
                fault.text()
            ));
            return Ok(arrivals);
        }
    };
    for format in catalogue.formats() {
        let Some(format) = Id::new(format.name, format.version) else {
            continue;
        };
        let verdict = Verdict::of(own, &format);
        if verdict == Verdict::Unreadable {
            trouble(log::fmt!(
                "{format} arrived, which this kernel does not read; it is kept out of use"
            ));
        }
        arrivals.push(Arrival { format, verdict }, GFP_KERNEL)?;
    }
    Ok(arrivals)
}
