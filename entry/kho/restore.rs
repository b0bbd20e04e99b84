// SPDX-License-Identifier: GPL-2.0

//! The C API for memory that was handed over: include/linux/kexec_handover.h.

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, Ordering};

use kernel::bindings;
use kernel::prelude::*;

use super::vmalloc as vmalloc_area;
use crate::kho::addr::{PageRange, Pfn, PhysAddr};
use crate::kho::state as handover;
use crate::kho::vmalloc::{Chain, Descriptor};
use crate::sys::{glue, pages};

/// vmalloc flags that may be handed over: VM_ALLOC and VM_ALLOW_HUGE_VMAP.
const VMALLOC_FLAGS: u16 = 0x0003;

/// Refusals that are logged; a list of bad addresses must not flood the log.
const LOGGED: u32 = 32;

fn refused(what: &str, at: PhysAddr) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if COUNT.fetch_add(1, Ordering::Relaxed) >= LOGGED {
        return;
    }
    pr_warn!(
        "cannot restore {what} at {:#x}: not preserved, or restored before\n",
        at.raw()
    );
}

#[export]
extern "C" fn kho_restore_folio(phys: u64) -> *mut bindings::folio {
    let at = PhysAddr::new(phys);
    let claimed = at
        .is_page_aligned()
        .then(|| handover::incoming(|incoming| incoming.claim_block(at.pfn())));
    match claimed.flatten() {
        Some(order) => {
            // SAFETY: No preconditions.
            if order.raw() > unsafe { glue::lu_max_folio_order() } {
                pr_err!("block at {phys:#x} is too large for a folio and stays out of use\n");
                return null_mut();
            }
            let folio = pages::give_out_folio(at.pfn(), order);
            if folio.is_null() {
                pr_err!("memory at {phys:#x} has gone bad and stays out of use\n");
            }
            folio.cast()
        }
        None => {
            refused("folio", at);
            null_mut()
        }
    }
}

#[export]
extern "C" fn kho_restore_pages(phys: u64, nr_pages: c_ulong) -> *mut bindings::page {
    let at = PhysAddr::new(phys);
    let range = PageRange::new(at.pfn(), nr_pages as u64);
    let claimed = at.is_page_aligned()
        && !range.is_empty()
        && handover::incoming(|incoming| incoming.claim_pages(range).then_some(())).is_some();
    if !claimed {
        refused("pages", at);
        return null_mut();
    }
    if !pages::give_out_pages(range) {
        pr_err!("memory at {phys:#x} has gone bad and stays out of use\n");
        return null_mut();
    }
    // SAFETY: The frame was claimed from the tree, so it has a struct page.
    unsafe { glue::lu_pfn_to_page(at.pfn().raw()).cast() }
}

/// # Safety
///
/// `mem` is null or an address in the direct map.
#[export]
pub(super) unsafe extern "C" fn kho_restore_free(mem: *mut c_void) {
    if mem.is_null() {
        return;
    }
    // SAFETY: By the caller's promise.
    let folio = kho_restore_folio(unsafe { glue::lu_virt_to_phys(mem) });
    if !folio.is_null() {
        // SAFETY: This is the only reference to the folio, and it is given up.
        unsafe { glue::lu_folio_put(folio.cast()) };
    }
}

/// # Safety
///
/// `preservation` may be read; what it says is not trusted.
#[export]
unsafe extern "C" fn kho_restore_vmalloc(
    preservation: *const bindings::kho_vmalloc,
) -> *mut c_void {
    // SAFETY: By the caller's promise.
    let descriptor = unsafe { vmalloc_area::load(preservation) };
    restore_vmalloc(&descriptor).unwrap_or_else(|err| {
        pr_warn!(
            "cannot restore vmalloc area of {} pages listed at {:#x}: {err:?}\n",
            descriptor.total_pages,
            descriptor.first.raw()
        );
        null_mut()
    })
}

/// Claims everything, maps it, and only then makes the claim final: a failure before loses nothing.
fn restore_vmalloc(descriptor: &Descriptor) -> Result<*mut c_void> {
    if descriptor.flags & !VMALLOC_FLAGS != 0 {
        return Err(EINVAL);
    }
    let claimed = handover::incoming(|incoming| Some(Chain::claim(incoming, descriptor)));
    let chain = claimed.ok_or(EINVAL)??;
    let mapped = match map(&chain, descriptor) {
        Ok(mapped) => mapped,
        Err(err) => {
            handover::incoming(|incoming| chain.unclaim(incoming).ok());
            return Err(err);
        }
    };
    handover::incoming(|incoming| {
        chain.finish(incoming);
        Some(())
    });
    let order = chain.order();
    for block in chain.blocks() {
        // Found to be good by `map`.
        pages::give_out_pages(PageRange::new(block, order.pages()));
    }
    for chunk in chain.into_chunks() {
        if pages::give_out_pages(PageRange::new(chunk, 1)) {
            // SAFETY: The chunk was claimed and given out above: this is the only reference.
            unsafe { glue::lu_free_page(glue::lu_phys_to_virt(chunk.phys().raw())) };
        }
    }
    Ok(mapped)
}

/// Maps the blocks of a claimed chain as a vmalloc area.
fn map(chain: &Chain, descriptor: &Descriptor) -> Result<*mut c_void> {
    let (order, nr) = (chain.order(), descriptor.total_pages);
    let array = PageArray::new(nr.into()).ok_or(ENOMEM)?;
    let mut index = 0;
    for block in chain.blocks() {
        if pages::any_poisoned(PageRange::new(block, order.pages())) {
            return Err(EIO);
        }
        for i in 0..order.pages() {
            array.set(index, block.plus(i));
            index += 1;
        }
    }
    // SAFETY: The array has `nr` struct pages in blocks of `order`: the claim counted them.
    let mapped = unsafe { glue::lu_vmap_restored(array.0, nr, order.raw(), descriptor.flags) };
    if mapped.is_null() {
        return Err(ENOMEM);
    }
    // The area owns the array now.
    core::mem::forget(array);
    Ok(mapped)
}

/// An array of struct page pointers as vmalloc areas own it.
struct PageArray(*mut *mut glue::page, u64);

impl PageArray {
    fn new(nr: u64) -> Option<Self> {
        // SAFETY: No preconditions.
        let array = unsafe { glue::lu_page_array_alloc(nr as usize) };
        (!array.is_null()).then_some(Self(array, nr))
    }

    fn set(&self, index: usize, pfn: Pfn) {
        if (index as u64) < self.1 {
            // SAFETY: The index was checked; the frame is of the incoming tree.
            unsafe { glue::lu_page_array_set(self.0, index, pfn.raw()) };
        }
    }
}

impl Drop for PageArray {
    fn drop(&mut self) {
        // SAFETY: Allocated in `new`; no area owns it, or it would have been forgotten.
        unsafe { glue::lu_page_array_free(self.0) };
    }
}
