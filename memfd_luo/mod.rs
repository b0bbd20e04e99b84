// SPDX-License-Identifier: GPL-2.0

//! memfds that live through an update: LUO's first file handlers, "memfd-v2" and "memfd-v3".
//!
//! Version 2 is mainline's: `format` is its bytes, `preserve` writes them, `retrieve` reads them
//! back. Version 3 is ours, and leaves holes what they are: `extents` is its bytes, `gather` finds
//! what is in a file, `sparse` writes it down, `restore` reads it back, and `merge` makes folios
//! larger than they were. `convert` makes one of the other, before the kexec. `run` puts
//! neighbouring folios together, `table` is an array of records as it lies in memory. What a file
//! is to the running kernel, they see through [`Source`] and [`Sink`] only; what memory is, through
//! [`Kho`].

pub(crate) mod convert;
pub(crate) mod extents;
mod fill;
pub(crate) mod format;
mod gather;
mod merge;
pub(crate) mod preserve;
pub(crate) mod restore;
pub(crate) mod retrieve;
mod run;
pub(crate) mod sparse;
pub(crate) mod table;

pub(crate) use crate::luo::memory::Kho;
pub(crate) use run::Run;

use crate::kho::addr::{Order, Pfn};
use crate::sys::error::Result;

/// Most folios that are looked at in one step: what a step keeps on the stack, which is small in a
/// kernel. So functions with such a batch are not inlined: no frame has two of them.
pub(crate) const BATCH: usize = 64;

/// Most runs that are looked at in one step, for the same reason.
pub(crate) const RUNS: usize = 32;

/// Most folios that one step hands to a [`Sink`], which holds spinlocks for them.
const STEP: u64 = 256;

/// A folio of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Folio {
    pub(crate) pfn: Pfn,
    /// Place in the file, in pages.
    pub(crate) index: u64,
    pub(crate) order: Order,
}

impl Folio {
    pub(crate) const NONE: Self = Self {
        pfn: Pfn::new(0),
        index: 0,
        order: Order::ZERO,
    };
}

/// A memfd of this kernel whose size does not change.
pub(crate) trait Source {
    /// Takes references to the folios from page `index` on, up to page `end`, as many as it likes
    /// and at least one: they are in ordinary memory, stay there, are dirty and up to date. Holes
    /// are filled. Returns how many.
    ///
    /// # Errors
    ///
    /// No reference is kept then.
    fn pin(&mut self, index: u64, end: u64, into: &mut [Folio; BATCH]) -> Result<usize>;

    /// As [`Self::pin`], of what is there: holes are passed over, and so may be nothing found.
    /// Moves `index` on to the first page that was not looked at, or to one in the last folio of
    /// these.
    ///
    /// # Errors
    ///
    /// No reference is kept then.
    fn pin_present(
        &mut self,
        index: &mut u64,
        end: u64,
        into: &mut [Folio; BATCH],
    ) -> Result<usize>;

    /// Pages of the file that are in memory.
    fn in_memory(&mut self) -> u64;

    /// Pages of the file that are in swap.
    fn swapped(&mut self) -> u64;

    /// Pages that the file is charged for, wherever they are. It is charged for a page a moment
    /// after that has come into memory, and before it can leave that again.
    fn charged(&mut self) -> u64;

    /// Whether memory of a run is known to be bad.
    fn any_bad(&mut self, run: &Run) -> bool;

    /// Fills in the orders of folios that are pinned.
    fn orders(&mut self, folios: &mut [Folio]);

    /// Gives the references back.
    fn unpin(&mut self, folios: &[Folio]);

    /// The same for the folios of a run.
    fn unpin_run(&mut self, run: &Run);
}

/// A memfd that is filled with what was handed over, and that nobody has open yet.
pub(crate) trait Sink {
    /// At most so many pages will be in the file.
    fn expect(&mut self, pages: u64);

    /// Makes folios of claimed frames, charges them, and puts them into the file. If who retrieves
    /// it may not have all of it in memory, but can have the rest in swap, what is there may go to
    /// swap from then on: see [`Self::is_shared`].
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    fn fill(&mut self, runs: &[Run]) -> Result;

    /// Whether folios of the file may be in swap, so that it cannot be taken apart into frames any
    /// more.
    fn is_shared(&self) -> bool;

    /// Undoes [`Self::fill`] for these folios: their frames wait again. Fills in their orders.
    fn take_back(&mut self, folios: &mut [Folio]);

    /// Says which zone a frame is in: folios do not reach from one into another.
    fn zones(&self) -> fn(u64) -> u32;

    /// All is in the file, `pages` pages: from here on it is like any other.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    fn publish(&mut self, pages: u64) -> Result;
}
