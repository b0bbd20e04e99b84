// SPDX-License-Identifier: GPL-2.0

//! The C API for memory that was handed over: include/linux/kexec_handover.h.

use core::ffi::c_void;
use core::ptr::null_mut;

use kernel::bindings;
use kernel::prelude::*;

use super::{glue, pages, state, vmalloc_area};
use crate::kho::addr::{PageRange, Pfn, PhysAddr};
use crate::kho::incoming::Incoming;
use crate::kho::vmalloc::{Chain, Descriptor};

/// vmalloc flags that may be handed over: VM_ALLOC and VM_ALLOW_HUGE_VMAP.
const VMALLOC_FLAGS: u16 = 0x0003;

/// Runs `f` on what was handed over, if anything was.
fn with_incoming<T>(f: impl FnOnce(&mut Incoming) -> Option<T>) -> Option<T> {
    f(state::INCOMING.lock().as_mut()?)
}

fn refused(what: &str, at: PhysAddr) {
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
        .then(|| with_incoming(|incoming| incoming.claim_block(at.pfn())));
    match claimed.flatten() {
        Some(order) => {
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
        && with_incoming(|incoming| incoming.claim_pages(range).then_some(())).is_some();
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

/// Checks everything, maps it, and only then claims the memory: a failure before that loses none.
fn restore_vmalloc(descriptor: &Descriptor) -> Result<*mut c_void> {
    if descriptor.flags & !VMALLOC_FLAGS != 0 {
        return Err(EINVAL);
    }
    let checked = with_incoming(|incoming| Some(Chain::check(incoming, descriptor)));
    let chain = checked.ok_or(EINVAL)??;
    let nr = descriptor.total_pages;
    let array = PageArray::new(nr.into()).ok_or(ENOMEM)?;
    let order = chain.order();
    let blocks = || {
        chain
            .blocks()
            .map(|pfn| PageRange::new(pfn, order.pages()))
    };
    let frames = blocks().flat_map(|block| (0..block.pages()).map(move |i| block.start.plus(i)));
    for (index, pfn) in frames.enumerate().take(nr as usize) {
        array.set(index, pfn);
    }
    // SAFETY: The array has `nr` struct pages in blocks of `order`, as the chain was checked.
    let mapped =
        unsafe { glue::lu_vmap_restored(array.0, nr, order.raw(), descriptor.flags) };
    if mapped.is_null() {
        return Err(ENOMEM);
    }
    let claimed = with_incoming(|incoming| chain.claim(incoming).ok()).is_some()
        && blocks().fold(true, |good, block| pages::give_out_pages(block) && good);
    if !claimed {
        // SAFETY: Mapped above, used by nobody.
        unsafe { glue::lu_vunmap_restored(mapped) };
        return Err(EINVAL);
    }
    // The area owns the array now.
    core::mem::forget(array);
    for chunk in chain.into_chunks() {
        let range = PageRange::new(chunk, 1);
        if pages::give_out_pages(range) {
            // SAFETY: The chunk was claimed and given out above: this is the only reference.
            unsafe { glue::lu_free_page(glue::lu_phys_to_virt(chunk.phys().raw())) };
        }
    }
    Ok(mapped)
}

/// An array of struct page pointers as vmalloc areas own it.
struct PageArray(*mut *mut glue::page, u64);

impl PageArray {
    fn new(nr: u64) -> Option<Self> {
        // SAFETY: No preconditions.
        let array = unsafe { glue::lu_page_array_alloc(nr as _) };
        (!array.is_null()).then_some(Self(array, nr))
    }

    fn set(&self, index: usize, pfn: Pfn) {
        if (index as u64) < self.1 {
            // SAFETY: The index was checked; the frame is of the incoming tree.
            unsafe { glue::lu_page_array_set(self.0, index as _, pfn.raw()) };
        }
    }
}

impl Drop for PageArray {
    fn drop(&mut self) {
        // SAFETY: Allocated in `new`; no area owns it, or it would have been forgotten.
        unsafe { glue::lu_page_array_free(self.0) };
    }
}
