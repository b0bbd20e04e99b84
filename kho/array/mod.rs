// SPDX-License-Identifier: GPL-2.0

//! Sparse arrays of 64-bit values in preserved pages, whose own pages are their tree.
//!
//! A leaf has values, and a bit for each that says whether it is there. Leaves are numbered, and
//! found through tables of links. A leaf's number is written in base `FANOUT`, the links in a
//! table. The root links one tree per number of digits (1 to 6), so trees never grow in height and
//! a small array is one root and one leaf. No path is longer than eight pages.
//!
//! Every change is committed by one word, so the array is right whenever a kernel stops, and there
//! is nothing to write down before a kexec.
//!
//! [`shape`] says where things are, and is the format; [`edit`] sets and clears; [`find`] looks up
//! and walks; [`attach`] takes over what was handed over.

mod attach;
mod edit;
mod find;
pub(crate) mod shape;

use super::addr::PhysAddr;
use super::root::{Root, Type};
use crate::sys::error::Result;
use crate::sys::Frame;
use shape::KIND;

/// Arrays have no type.
const TYPE: Type = Type { size: 0, align: 0 };

/// An array. Dropping it frees all of it.
///
/// # Invariants
///
/// All of its pages are its own, and preserved. No table or leaf is empty, unless it was when the
/// array was handed over. No leaf that is remembered was given back.
pub(crate) struct Array {
    root: Root,
    /// The leaf that was used last, by its number.
    last: Option<(u64, Frame)>,
    len: u64,
}

impl Array {
    /// Makes an array without values. An empty name is none.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a name that cannot be, also while KHO is off; `EEXIST` for a name in use;
    /// `ENOMEM`.
    pub(crate) fn create(name: &[u8]) -> Result<Self> {
        Ok(Self {
            root: Root::create(&KIND, name, TYPE)?,
            last: None,
            len: 0,
        })
    }

    /// The address by which an array without a name is found.
    pub(crate) fn handle(&self) -> PhysAddr {
        self.root.frame().phys()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}
