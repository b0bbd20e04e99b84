// SPDX-License-Identifier: GPL-2.0

//! What is fuzzed: each target turns any bytes into a damaged handover, and boots it.
//!
//! [`tree`], [`chains`], [`luo`] and [`boot`] read a list of [`Patch`]es of a sample's pages;
//! [`boot`] then takes what is left of the input as the FDT. [`fdt`] takes all of it as an FDT.
//! `fuzz/` runs them under libFuzzer; `cargo test` replays the corpora.

use std::sync::OnceLock;

use zerocopy::IntoBytes;

use super::kernel::Handed;
use super::sample::{Kind, Sample, NAME};
use crate::kho::addr::{PageRange, Pfn, PhysAddr};
use crate::kho::fdt::{memory_map, names};
use crate::kho::metadata::{self, Metadata};
use crate::kho::subtrees::Subtrees;
use crate::sys::fdt::Blob;
use crate::sys::machine::with;
use crate::sys::FRAME_WORDS;

/// Most patches of one input.
const MOST: usize = 32;

/// What a patch does to a word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Set,
    Flip,
    Add,
    /// The address of a page of the sample, by its number.
    Page,
    /// The address of a frame of the machine, by its number.
    Frame,
    /// A copy of another word: page number times the words of a page, plus the word's number.
    Copy,
}

const MODES: [Mode; 6] = [
    Mode::Set,
    Mode::Flip,
    Mode::Add,
    Mode::Page,
    Mode::Frame,
    Mode::Copy,
];

/// One word of one page changed. In the input: page, mode, word (16 bits), value (64 bits), the
/// numbers little-endian and cut to what exists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patch {
    pub(crate) page: u8,
    pub(crate) mode: Mode,
    pub(crate) word: u16,
    pub(crate) value: u64,
}

/// Bytes of a patch.
pub(crate) const PATCH: usize = 12;

impl Patch {
    fn read(bytes: &[u8; PATCH]) -> Self {
        let [page, mode, low, high, value @ ..] = *bytes;
        Self {
            page,
            mode: MODES[usize::from(mode) % MODES.len()],
            word: u16::from_le_bytes([low, high]),
            value: u64::from_le_bytes(value),
        }
    }

    pub(crate) fn write(self) -> Vec<u8> {
        let mut bytes = vec![self.page, self.mode as u8];
        bytes.extend(self.word.to_le_bytes());
        bytes.extend(self.value.to_le_bytes());
        bytes
    }

    fn apply(self, pages: &[PhysAddr]) {
        let at = pages[usize::from(self.page) % pages.len()];
        let word = usize::from(self.word) % FRAME_WORDS;
        let page = |number: u64| pages[(number % pages.len() as u64) as usize];
        let words = FRAME_WORDS as u64;
        with(|m| {
            let old = m.peek(at, word);
            let new = match self.mode {
                Mode::Set => self.value,
                Mode::Flip => old ^ self.value,
                Mode::Add => old.wrapping_add(self.value),
                Mode::Page => page(self.value).raw(),
                Mode::Frame => Pfn::new(self.value % m.frames()).phys().raw(),
                Mode::Copy => m.peek(page(self.value / words), (self.value % words) as usize),
            };
            m.poke(at, word, new);
        });
    }
}

/// The handover that all targets damage.
pub(crate) fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(Sample::new)
}

/// The pages a target may patch: of these kinds, then the eight of the largest folio, which can be
/// made into whatever the former are.
pub(crate) fn pages_of(sample: &Sample, kinds: &[Kind]) -> Vec<PhysAddr> {
    let folio = sample.record.folio(3).pfn();
    let own = sample
        .pages
        .iter()
        .filter(|page| kinds.contains(&page.kind));
    own.map(|page| page.at)
        .chain((0..8).map(|page| folio.plus(page).phys()))
        .collect()
}

pub(crate) const TREE: &[Kind] = &[Kind::TreeNode];

pub(crate) const CHAINS: &[Kind] = &[Kind::Record, Kind::VmallocChunk, Kind::BlockHeader];

pub(crate) const BOOT: &[Kind] = &[
    Kind::Fdt,
    Kind::ScratchList,
    Kind::TreeNode,
    Kind::VmallocChunk,
    Kind::BlockHeader,
    Kind::Metadata,
    Kind::Record,
];

pub(crate) fn patch(pages: &[PhysAddr], data: &[u8]) {
    // A last odd byte: what one finds where nothing was left.
    if data.len() % PATCH != 0 {
        with(|m| m.blank = 0);
    }
    for bytes in data.chunks_exact(PATCH).take(MOST) {
        Patch::read(bytes.try_into().expect("exact")).apply(pages);
    }
}

/// Nodes and keys of the radix tree.
pub fn tree(data: &[u8]) {
    let pages = pages_of(sample(), TREE);
    sample().boot_only(|_| patch(&pages, data));
}

/// vmalloc chunks, blocks, and the record that says where they begin.
pub fn chains(data: &[u8]) {
    let pages = pages_of(sample(), CHAINS);
    sample().boot_only(|_| patch(&pages, data));
}

/// What the orchestrator left, with KHO's part whole: patches of its pages.
pub fn luo(data: &[u8]) {
    super::luo::targets::luo(data);
}

/// Everything. The first byte says how many patches there are, and in its upper half how the
/// addresses that the boot protocol carries lie.
pub fn boot(data: &[u8]) {
    let Some((&head, data)) = data.split_first() else {
        return;
    };
    let sample = sample();
    let pages = pages_of(sample, BOOT);
    let (patches, fdt) = data.split_at((usize::from(head & 15) * PATCH).min(data.len()));
    let Handed {
        fdt: at,
        list,
        list_len,
    } = sample.handed;
    let handed = match head >> 4 {
        1 => Handed {
            fdt: PhysAddr::new(at.raw() + 8),
            ..sample.handed
        },
        2 => Handed {
            fdt: list,
            ..sample.handed
        },
        3 => Handed {
            list: at,
            list_len,
            fdt: at,
        },
        4 => Handed {
            list_len: list_len / 2,
            ..sample.handed
        },
        5 => Handed {
            list_len: 1 << 14,
            ..sample.handed
        },
        6 => Handed {
            list_len: 4096,
            ..sample.handed
        },
        7 => Handed {
            list: PhysAddr::new(list.raw() + 16),
            ..sample.handed
        },
        _ => sample.handed,
    };
    sample.boot(handed, |_| {
        for (word, bytes) in fdt.chunks(8).take(FRAME_WORDS).enumerate() {
            let mut all = with(|m| m.peek(at, word)).to_ne_bytes();
            all[..bytes.len()].copy_from_slice(bytes);
            with(|m| m.poke(at, word, u64::from_ne_bytes(all)));
        }
        patch(&pages, patches);
    });
}

/// The FDT by itself, of any length; and "kexec-metadata".
pub fn fdt(data: &[u8]) {
    // This target never boots: nobody else forgets what was logged.
    with(|m| m.take_log());
    if let Ok(read) = Metadata::decode(data) {
        assert_eq!(read.encode()[..], data[..metadata::LEN]);
        assert!(read.release().to_string().len() < 65);
    }
    let mut words = vec![0u64; data.len().div_ceil(8)];
    words.as_mut_bytes()[..data.len()].copy_from_slice(data);
    let blob = Blob::new(&words.as_bytes()[..data.len()]);
    if memory_map(&blob).is_err() {
        return;
    }
    // As if all memory was preserved.
    let mut subtrees = Subtrees::list(&blob).expect("memory");
    subtrees.meet(PageRange::new(Pfn::new(0), with(|m| m.frames())));
    subtrees.report(&blob);
    let room = data.len() / 12;
    assert!(
        names(&blob).count() <= room,
        "more nodes than there is room for"
    );
    for name in names(&blob) {
        if let Ok(found) = subtrees.find(&blob, name) {
            let end = found.data.raw().checked_add(found.size);
            assert!(end.is_some_and(|end| end <= with(|m| m.frames()) << 12));
        }
    }
    for name in [NAME, metadata::NAME] {
        let _ = subtrees.find(&blob, name);
    }
}
