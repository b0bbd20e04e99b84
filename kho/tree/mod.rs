// SPDX-License-Identifier: GPL-2.0

//! The radix tree of bitmaps that tracks what is preserved: "kho-v4", one page a node.
//!
//! Six levels with 4 KiB pages: five of tables, whose entries are physical addresses of nodes one
//! level down (zero: none), and bitmaps at the bottom, one bit a key. (Layout:
//! include/linux/kho/abi/kexec_handover.h.)
//!
//! # Invariants
//!
//! No node but the root is empty, from the moment an operation returns: what a failed insertion
//! allocated and what a removal emptied is given back. The root never is, since the handed-over FDT
//! names it.

mod cache;
mod cursor;
mod edit;
mod node;
mod nodes;
#[cfg(kernel)]
mod walk;

pub(crate) use crate::sys::NodeStore;
pub(crate) use cache::LeafCache;
pub(crate) use cursor::Cursor;
#[cfg(test)]
pub(crate) use node::DEPTH;
#[cfg(test)]
pub(crate) use node::FORMAT;
#[cfg(kernel)]
pub(crate) use walk::Visitor;

use crate::sys::Frame;

/// A tree, by its root node. Locking is the owner's.
#[derive(Clone, Copy)]
pub(crate) struct Tree {
    root: Frame,
}

impl Tree {
    /// The tree whose root node is `root`: a zeroed frame for an empty one.
    pub(crate) const fn at(root: Frame) -> Self {
        Self { root }
    }

    pub(crate) const fn root(&self) -> Frame {
        self.root
    }
}
