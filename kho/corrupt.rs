// SPDX-License-Identifier: GPL-2.0

//! Spoils what is about to be handed over, on demand: so that real kernels meet hostile bytes.
//!
//! Only in kernels built with KEXEC_HANDOVER_DEBUG, and only when root asks for it by name in
//! debugfs. What each name does is written at its variant; what the next kernel makes of it is in
//! `Documentation/hostile.rst`. What spoils LUO's own records is in `luo/corrupt.rs`.

use core::ffi::CStr;

use super::addr::{Order, Pfn, PhysAddr};
use super::fdt::{subtree, RootFdt};
use super::key::{encode, Run};
use super::metadata;
use super::scratch::List;
use super::tree::Tree;
use crate::sys::error::{Result, EINVAL, ENOENT};
use crate::sys::fdt::Blob;
use crate::sys::pages::BuddyNodes;
use crate::sys::{Frame, FRAME_WORDS};

/// Makes the enum of ways to spoil a handover, each known by a name.
macro_rules! corruptions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A way to spoil a handover.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Corruption { $($(#[$doc])* $variant,)* }

        impl Corruption {
            /// All of them, with their names.
            pub(crate) const ALL: &'static [(&'static str, Self)] =
                &[$(($name, Self::$variant),)*];

            /// Finds one by name; white space around it is ignored.
            pub(crate) fn named(name: &[u8]) -> Option<Self> {
                let name = name.trim_ascii();
                Self::ALL
                    .iter()
                    .find(|(have, _)| have.as_bytes() == name)
                    .map(|&(_, corruption)| corruption)
            }
        }
    };
}
pub(crate) use corruptions;

corruptions! {
    /// The FDT's magic number is wrong.
    BadMagic = "bad-magic",
    /// The FDT says that it has 16 MiB.
    LyingTotalsize = "lying-totalsize",
    /// The FDT has no `preserved-memory-map`.
    MissingMap = "missing-map",
    /// A table entry points past the end of memory.
    NodeOutsideRam = "node-outside-ram",
    /// A table entry points into scratch.
    NodeInScratch = "node-in-scratch",
    /// A table entry of the root points to the root.
    NodeLoop = "node-loop",
    /// Two table entries point to the same node.
    NodeShared = "node-shared",
    /// A key says that all of the address space is one preserved block.
    KeyOrder = "key-order",
    /// A number is in the tree that is no key.
    NotAKey = "not-a-key",
    /// A block overlaps one that is preserved under another key.
    OverlappingBlocks = "overlapping-blocks",
    /// The last chunk of a vmalloc area links to itself.
    VmallocCycle = "vmalloc-cycle",
    /// The release in the metadata does not end.
    UnterminatedRelease = "unterminated-release",
    /// A subtree points past the end of memory.
    WildSubtree = "wild-subtree",
    /// The second scratch area reaches past the end of memory. Boot the next kernel with `nokaslr`:
    /// its decompressor trusts the list.
    ScratchPastRam = "scratch-past-ram",
}

/// Where to find what can be spoilt.
pub(crate) struct Places<'a> {
    pub(crate) fdt: &'a RootFdt,
    pub(crate) tree: Tree,
    pub(crate) scratch: &'a List,
    /// First chunk of the vmalloc area preserved last.
    pub(crate) chain: Option<Frame>,
}

/// An address that no machine has memory at.
pub(crate) const NOWHERE: u64 = 1 << 51;

impl Corruption {
    /// Spoils the outgoing handover. [`Corruption::ScratchPastRam`] does nothing here: it concerns
    /// the list as it is loaded with the image.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] when nothing of the kind is preserved.
    pub(crate) fn apply(self, places: &Places<'_>) -> Result {
        let fdt = places.fdt.page().frame();
        let root = places.tree.root();
        let slot = (0..FRAME_WORDS)
            .find(|&i| root.word(i) != 0)
            .ok_or(ENOENT)?;
        match self {
            Self::BadMagic => fdt.set_word(0, fdt.word(0) ^ 0xff),
            Self::LyingTotalsize => {
                let [a, b, c, d, ..] = fdt.word(0).to_ne_bytes();
                fdt.set_word(0, u64::from_ne_bytes([a, b, c, d, 1, 0, 0, 0]));
            }
            Self::MissingMap => replace(fdt, b"preserved-memory-map", b"preserved-memory-mob")?,
            Self::NodeOutsideRam => root.set_word(slot, NOWHERE),
            Self::NodeInScratch => {
                let area = places.scratch.areas().find(|a| a.size != 0);
                root.set_word(slot, area.ok_or(ENOENT)?.start.raw());
            }
            Self::NodeLoop => root.set_word(slot, root.phys().raw()),
            Self::NodeShared => root.set_word(slot ^ 1, root.word(slot)),
            Self::KeyOrder => places
                .tree
                .insert(Run { first: 1, len: 1 }, &mut BuddyNodes)?,
            Self::NotAKey => places
                .tree
                .insert(Run { first: 0, len: 1 }, &mut BuddyNodes)?,
            Self::OverlappingBlocks => {
                let order = Order::new(3).ok_or(EINVAL)?;
                let first = encode(fdt.phys().pfn(), order);
                places.tree.insert(Run { first, len: 1 }, &mut BuddyNodes)?;
            }
            Self::VmallocCycle => {
                let chunk = last_chunk(places.chain.ok_or(ENOENT)?);
                chunk.set_word(0, chunk.phys().raw());
            }
            Self::UnterminatedRelease => {
                let record = metadata_of(fdt)?;
                // The release is bytes 4 to 68 of the record.
                record.set_word(0, record.word(0) & 0xffff_ffff | 0x7878_7878 << 32);
                (1..8).for_each(|word| record.set_word(word, 0x7878_7878_7878_7878));
                record.set_word(8, record.word(8) | 0x78_7878_7878);
            }
            Self::WildSubtree => {
                let at = metadata_of(fdt)?.phys().raw();
                replace(fdt, &at.to_ne_bytes(), &NOWHERE.to_ne_bytes())?;
            }
            Self::ScratchPastRam => {}
        }
        Ok(())
    }
}

fn last_chunk(first: Frame) -> Frame {
    let mut chunk = first;
    while let Some(next) = Frame::at(PhysAddr::new(chunk.word(0))) {
        if next == chunk {
            break;
        }
        chunk = next;
    }
    chunk
}

/// The page of the metadata record.
fn metadata_of(fdt: Frame) -> Result<Frame> {
    page_of(fdt, metadata::NAME)
}

/// The page where a subtree of the FDT begins.
pub(crate) fn page_of(fdt: Frame, name: &CStr) -> Result<Frame> {
    let mut words = [0u64; FRAME_WORDS];
    for (i, word) in words.iter_mut().enumerate() {
        *word = fdt.word(i);
    }
    let bytes = zerocopy::IntoBytes::as_bytes(words.as_slice());
    let found = subtree(&Blob::new(bytes), name)?;
    Frame::at(Pfn::new(found.data.pfn().raw()).phys()).ok_or(ENOENT)
}

/// Replaces the first occurrence of some bytes of a frame by as many others.
fn replace(frame: Frame, from: &[u8], to: &[u8]) -> Result {
    let byte = |at: usize| frame.word(at / 8).to_ne_bytes().get(at % 8).copied();
    let found = (0..FRAME_WORDS * 8 - from.len())
        .find(|start| (0..from.len()).all(|i| byte(start + i) == from.get(i).copied()))
        .ok_or(ENOENT)?;
    for (i, value) in to.iter().enumerate() {
        let at = found + i;
        let mut word = frame.word(at / 8).to_ne_bytes();
        if let Some(place) = word.get_mut(at % 8) {
            *place = *value;
        }
        frame.set_word(at / 8, u64::from_ne_bytes(word));
    }
    Ok(())
}
