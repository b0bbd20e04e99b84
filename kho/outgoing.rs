// SPDX-License-Identifier: GPL-2.0

//! The outgoing record, which this kernel will hand over: the tree of preserved frames and the root
//! FDT.

use core::ffi::CStr;

use super::addr::{Order, PageRange, Pfn, PhysAddr};
use super::audit::{audit, Wrong};
use super::fdt::RootFdt;
use super::key::{encode, Run};
use super::pages::Blocks;
use super::ram::{handed_around, Ram};
use super::scratch::List;
use super::tree::{LeafCache, NodeStore, Tree};
use crate::sys::error::{Result, EBUSY, EINVAL, ENOMEM, EOPNOTSUPP};
use crate::sys::fdt::Page;
use crate::sys::log;
use crate::sys::pages::{single_node, BuddyNodes};

/// The outgoing record. Everything in it can be undone until the kexec.
pub(crate) struct Outgoing {
    tree: Tree,
    cache: LeafCache,
    fdt: Option<RootFdt>,
    scratch: &'static List,
    /// A stretch of frames known to be free of scratch, and to be there in the next kernel.
    clear: PageRange,
    /// Whether it is complete: the root FDT is as it will be read.
    sealed: bool,
}

impl Outgoing {
    /// An empty record: a tree that holds nothing but the page of the root FDT, which names it.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; nothing stays allocated.
    #[inline(never)]
    pub(crate) fn create(scratch: &'static List) -> Result<Self> {
        let root = BuddyNodes.alloc().ok_or(ENOMEM)?;
        let mut out = Self {
            tree: Tree::at(root),
            cache: LeafCache::new(),
            fdt: None,
            scratch,
            clear: PageRange::new(Pfn::new(0), 0),
            sealed: false,
        };
        let made = BuddyNodes.alloc().ok_or(ENOMEM).and_then(|page| {
            out.preserve_block(page.phys().pfn(), Order::ZERO)
                .and_then(|()| RootFdt::new(Page::new(page), root.phys()))
                .inspect_err(|_| BuddyNodes.free(page))
        });
        match made {
            Ok(fdt) => {
                out.fdt = Some(fdt);
                Ok(out)
            }
            Err(err) => {
                out.tree.destroy(&mut BuddyNodes);
                Err(err)
            }
        }
    }

    #[cfg(any(
        all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS),
        not(kernel)
    ))]
    pub(crate) fn tree(&self) -> Tree {
        self.tree
    }

    /// The root FDT, to be spoilt.
    #[cfg(any(
        all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS),
        not(kernel)
    ))]
    pub(crate) fn fdt_mut(&mut self) -> Option<&mut RootFdt> {
        self.fdt.as_mut()
    }

    /// Refuses memory in scratch, which the next kernel overwrites, and memory that it does not
    /// know of when it takes over.
    fn refuse(&mut self, range: PageRange) -> Result {
        if !self.clear.contains(range) {
            if let Some(at) = self.scratch.first_in(range) {
                log::pr_err!(
                    "refusing to preserve scratch memory at {:#x}\n",
                    at.phys().raw()
                );
                return Err(EINVAL);
            }
            let there = handed_around(range.start);
            if !there.contains(range) || there.is_empty() {
                let at = there.end.max(range.start);
                log::pr_err!(
                    "refusing to preserve memory at {:#x}: it was added while this kernel ran, and the next one takes over before it finds it\n",
                    at.phys().raw()
                );
                return Err(EOPNOTSUPP);
            }
            let clear = self.scratch.clear_around(range.start);
            self.clear = PageRange::between(clear.start.max(there.start), clear.end.min(there.end));
        }
        Ok(())
    }

    /// Preserves one block as a key of its own.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for memory in scratch, [`EOPNOTSUPP`] for memory that was added while this kernel
    /// ran, [`ENOMEM`]; nothing has changed then.
    pub(crate) fn preserve_block(&mut self, pfn: Pfn, order: Order) -> Result {
        self.refuse(PageRange::new(pfn, order.pages()))?;
        self.cache
            .insert(self.tree, encode(pfn, order), &mut BuddyNodes)
    }

    /// Undoes [`Self::preserve_block`]; false if there was nothing to undo.
    pub(crate) fn unpreserve_block(&mut self, pfn: Pfn, order: Order) -> bool {
        self.cache
            .remove(self.tree, encode(pfn, order), Some(&mut BuddyNodes))
    }

    /// Preserves `count` contiguous blocks of one order, each a key of its own, as one run.
    pub(crate) fn preserve_run(&mut self, pfn: Pfn, order: Order, count: u64) -> Result {
        let run = Run::new(pfn, order, count).ok_or(EINVAL)?;
        self.refuse(run.frames(order))?;
        self.cache.insert_run(self.tree, run, &mut BuddyNodes)
    }

    /// Undoes [`Self::preserve_run`].
    pub(crate) fn unpreserve_run(&mut self, pfn: Pfn, order: Order, count: u64) {
        if let Some(run) = Run::new(pfn, order, count) {
            self.cache.forget();
            self.tree.remove(run, &mut BuddyNodes);
        }
    }

    /// Preserves contiguous pages, cut into blocks as the format has it.
    ///
    /// # Errors
    ///
    /// As for [`Self::preserve_block`].
    pub(crate) fn preserve_pages(&mut self, range: PageRange) -> Result {
        self.refuse(range)?;
        let mut done = range.start;
        for (pfn, order) in Blocks::new(range, single_node) {
            if let Err(err) = self.preserve_block(pfn, order) {
                self.unpreserve_pages(PageRange::between(range.start, done));
                return Err(err);
            }
            done = pfn.plus(order.pages());
        }
        Ok(())
    }

    /// Undoes [`Self::preserve_pages`] of the same range; false if parts of it were not preserved.
    pub(crate) fn unpreserve_pages(&mut self, range: PageRange) -> bool {
        Blocks::new(range, single_node).fold(true, |all, (pfn, order)| {
            self.unpreserve_block(pfn, order) && all
        })
    }

    /// Looks whether the next kernel could take over what is preserved, in the memory it will have:
    /// what is handed over, as `change` makes it.
    ///
    /// # Errors
    ///
    /// The first thing it would refuse.
    pub(crate) fn audit(&self, change: impl FnOnce(&mut Ram) -> Result) -> Result<(), Wrong> {
        let wrong = |err| match err {
            ENOMEM => Wrong::NoMemory,
            _ => Wrong::TooMany,
        };
        let mut ram = Ram::handed_over().map_err(wrong)?;
        change(&mut ram).map_err(wrong)?;
        audit(self.tree, &ram)
    }

    /// Completes the record, right before the jump: what is changed in the tree after this looks
    /// overwritten to the next kernel, and the FDT does not change any more. Other processors run
    /// on until they are stopped wherever they are, which must not be in the middle of editing it.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] when the FDT has no room for a checksum; it is handed over without one.
    pub(crate) fn seal(&mut self) -> Result {
        self.sealed = true;
        let tree = self.tree;
        self.fdt.as_mut().ok_or(EINVAL)?.seal(tree)
    }

    /// Whether it is complete, and the machine about to jump.
    #[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    pub(crate) fn fdt(&self) -> Option<&RootFdt> {
        self.fdt.as_ref()
    }

    /// Whether a subtree has a name that begins so.
    #[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
    pub(crate) fn has_subtree(&self, prefix: &[u8]) -> bool {
        self.fdt().is_some_and(|fdt| fdt.has(prefix))
    }

    /// Names a blob in the root FDT. Its pages must be preserved by the caller.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] once it is sealed, and those of [`RootFdt::add`].
    pub(crate) fn add_subtree(&mut self, name: &CStr, data: PhysAddr, size: u64) -> Result {
        match self.sealed {
            true => Err(EBUSY),
            false => self.fdt.as_mut().ok_or(EINVAL)?.add(name, data, size),
        }
    }

    /// Removes the subtree whose blob is at `data`; false if there is none.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] once it is sealed: the subtree stays, and so should the blob.
    pub(crate) fn remove_subtree(&mut self, data: PhysAddr) -> Result<bool> {
        match self.sealed {
            true => Err(EBUSY),
            false => Ok(self.fdt.as_mut().is_some_and(|fdt| fdt.remove(data))),
        }
    }
}
