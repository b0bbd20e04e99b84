// SPDX-License-Identifier: GPL-2.0

//! The root FDT, "kho-v4": where the next kernel starts from.
//!
//! ```text
//! / {
//!     compatible = "kho-v4";
//!     preserved-memory-map = <address of the tree's root node>;    native-endian u64
//!     rust-kho,checksum = <u64>;                                 ours; added right before the jump
//!     NAME { preserved-data = <address>; blob-size = <bytes>; };   a node a subtree
//! };
//! ```
//!
//! It is one page, since that is what the boot protocol hands over (arch/x86 passes `PAGE_SIZE`),
//! built and read by libfdt. Numbers are native-endian, not the big-endian of device trees.

use core::ffi::CStr;

use super::addr::PhysAddr;
use super::checksum;
use super::tree::Tree;
use crate::sys::error::{Result, EEXIST, EINVAL, ENOENT, ENOMEM};
use crate::sys::fdt::{Blob, FdtError, Page};
use crate::sys::layout::{field, fingerprint};
use crate::sys::log;
use crate::sys::{declare::Declared, declare_format};

const COMPATIBLE: &CStr = c"kho-v4";
const MEMORY_MAP: &CStr = c"preserved-memory-map";
const DATA: &CStr = c"preserved-data";
const SIZE: &CStr = c"blob-size";

declare_format! {
    /// The root FDT, with the tree that it names.
    FORMAT = Declared::compatible(COMPATIBLE.to_bytes(), "rw", LAYOUT);
}

/// Properties have no place, only a size.
const LAYOUT: u32 = fingerprint(&[
    &[field("preserved-memory-map", 0, 8)],
    &[field("preserved-data", 0, 8), field("blob-size", 0, 8)],
]);

/// The FDT this kernel will hand over.
pub(crate) struct RootFdt {
    page: Page,
}

impl RootFdt {
    /// Writes an FDT without subtrees into an empty page.
    pub(crate) fn new(mut page: Page, tree_root: PhysAddr) -> Result<Self> {
        page.create(|fdt| {
            fdt.property(c"compatible", COMPATIBLE.to_bytes_with_nul())?;
            fdt.property(MEMORY_MAP, &tree_root.raw().to_ne_bytes())
        })
        .map_err(|_| ENOMEM)?;
        Ok(Self { page })
    }

    pub(crate) fn page(&self) -> &Page {
        &self.page
    }

    /// Whether a subtree has a name that begins so.
    #[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
    pub(crate) fn has(&self, prefix: &[u8]) -> bool {
        self.page.any_node(prefix)
    }

    /// Adds a subtree.
    ///
    /// # Errors
    ///
    /// [`EEXIST`] for a name in use, [`ENOMEM`] when the page is full; the FDT is then as it was.
    pub(crate) fn add(&mut self, name: &CStr, data: PhysAddr, size: u64) -> Result {
        let added = self.page.edit(|fdt| {
            let node = fdt.add_node(name)?;
            let filled = fdt
                .set_property(node, DATA, &data.raw().to_ne_bytes())
                .and_then(|()| fdt.set_property(node, SIZE, &size.to_ne_bytes()));
            if filled.is_err() {
                fdt.delete_node(node);
            }
            filled
        });
        added.map_err(|err| match err {
            FdtError::Exists => EEXIST,
            _ => ENOMEM,
        })
    }

    /// Writes the checksum over this FDT and the tree it names. Any change after that wants it
    /// again.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] when the page is full; there is no checksum then.
    pub(crate) fn seal(&mut self, tree: Tree) -> Result {
        // A place for it first, so that all else is as it will be.
        self.write_checksum(0)?;
        let value = self.page.find(Blob::ROOT, checksum::NAME).ok_or(ENOMEM)?;
        let sum = checksum::of(self.page.frame(), self.page.len(), value, tree);
        self.write_checksum(sum)
    }

    fn write_checksum(&mut self, sum: u64) -> Result {
        self.page
            .edit(|fdt| fdt.set_property(Blob::ROOT, checksum::NAME, &sum.to_ne_bytes()))
            .map_err(|_| ENOMEM)
    }

    /// Removes the subtree whose data is at `data`. Returns whether there was one.
    pub(crate) fn remove(&mut self, data: PhysAddr) -> bool {
        let removed = self.page.edit(|fdt| {
            let found = fdt
                .nodes()
                .find(|&node| fdt.property_u64(node, DATA) == Some(data.raw()));
            match found {
                Some(node) => {
                    fdt.delete_node(node);
                    Ok(true)
                }
                None => Ok(false),
            }
        });
        removed.unwrap_or(false)
    }
}

/// The contents of the header and the root node of a handed-over FDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The header is no FDT's, or says it is larger than what was handed over; libfdt's code.
    Header(i32),
    /// It is an FDT of another format than "kho-v4".
    Incompatible,
    /// There is no, or a malformed, address of the preserved memory map.
    NoMemoryMap,
}

impl log::Display for Unusable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Header(code) => write!(f, "is invalid (libfdt error {code})"),
            Self::Incompatible => write!(f, "is incompatible with 'kho-v4'"),
            Self::NoMemoryMap => write!(f, "has no usable preserved-memory-map"),
        }
    }
}

/// Checks a handed-over FDT and returns the address of the tree's root node.
pub(crate) fn memory_map(fdt: &Blob<'_>) -> core::result::Result<PhysAddr, Unusable> {
    fdt.check().map_err(|err| Unusable::Header(err.code()))?;
    if !fdt.is_compatible(COMPATIBLE) {
        return Err(Unusable::Incompatible);
    }
    match fdt.property_u64(Blob::ROOT, MEMORY_MAP) {
        Some(0) | None => Err(Unusable::NoMemoryMap),
        Some(map) => Ok(PhysAddr::new(map)),
    }
}

/// A subtree as the FDT describes it; where it points is not checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    pub(crate) data: PhysAddr,
    pub(crate) size: u64,
}

/// Looks a subtree up by name.
///
/// # Errors
///
/// [`ENOENT`] when there is none, [`EINVAL`] when its description is broken.
pub(crate) fn subtree(fdt: &Blob<'_>, name: &CStr) -> Result<Subtree> {
    let node = fdt.node(name).ok_or(ENOENT)?;
    describe(fdt, node).ok_or(EINVAL)
}

/// Names of all subtrees, whatever their description is worth.
pub(crate) fn names<'a>(fdt: &'a Blob<'_>) -> impl Iterator<Item = &'a CStr> + 'a {
    fdt.nodes().filter_map(move |node| fdt.name(node))
}

/// All subtrees whose description is whole.
pub(crate) fn subtrees<'a>(fdt: &'a Blob<'_>) -> impl Iterator<Item = Subtree> + 'a {
    fdt.nodes().filter_map(move |node| describe(fdt, node))
}

fn describe(fdt: &Blob<'_>, node: i32) -> Option<Subtree> {
    Some(Subtree {
        data: PhysAddr::new(fdt.property_u64(node, DATA)?),
        size: fdt.property_u64(node, SIZE)?,
    })
}
