// SPDX-License-Identifier: GPL-2.0

//! The C API for preserving memory: include/linux/kexec_handover.h.

use core::ffi::c_void;

use kernel::bindings;
use kernel::prelude::*;

use super::vmalloc::{self as vmalloc_area, VmArea};
use crate::kho::addr::{Order, PageRange, Pfn};
use crate::kho::state as handover;
use crate::kho::vmalloc;
use crate::sys::glue;

/// The C API's way to say how it went. What a driver asks wrongly is a bug of its, and shown as one
/// in debug builds.
fn errno(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(err) => {
            #[cfg(CONFIG_KEXEC_HANDOVER_DEBUG)]
            kernel::warn_on!(err == EINVAL);
            err.to_errno()
        }
    }
}

fn warn_not_preserved(pfn: Pfn) {
    pr_warn!(
        "unpreserve of memory that is not preserved, at {:#x}\n",
        pfn.phys().raw()
    );
}

/// The block a folio is.
///
/// # Safety
///
/// `folio` is a folio the caller holds a reference to.
unsafe fn block_of(folio: *mut bindings::folio) -> Result<(Pfn, Order)> {
    // SAFETY: By the caller's promise.
    let (pfn, order) = unsafe {
        let folio = folio.cast();
        (glue::lu_folio_pfn(folio), glue::lu_folio_order(folio))
    };
    Ok((Pfn::new(pfn), Order::new(order).ok_or(EINVAL)?))
}

/// Frames of `nr` pages from `page` on.
///
/// # Safety
///
/// `page` is a struct page.
unsafe fn frames_of(page: *mut bindings::page, nr: c_ulong) -> PageRange {
    // SAFETY: By the caller's promise.
    let pfn = unsafe { glue::lu_page_to_pfn(page.cast()) };
    PageRange::new(Pfn::new(pfn), nr as u64)
}

fn preserve_block(pfn: Pfn, order: Order) -> Result {
    handover::outgoing(|out| out.preserve_block(pfn, order))
}

fn unpreserve_block(pfn: Pfn, order: Order) {
    match handover::outgoing(|out| Ok(out.unpreserve_block(pfn, order))) {
        Ok(true) => {}
        _ => warn_not_preserved(pfn),
    }
}

/// # Safety
///
/// The caller holds a reference to `folio`, and keeps its order, until it is unpreserved.
#[export]
unsafe extern "C" fn kho_preserve_folio(folio: *mut bindings::folio) -> c_int {
    // SAFETY: By the caller's promise.
    let block = unsafe { block_of(folio) };
    errno(block.and_then(|(pfn, order)| preserve_block(pfn, order)))
}

/// # Safety
///
/// As for [`kho_preserve_folio`].
#[export]
unsafe extern "C" fn kho_unpreserve_folio(folio: *mut bindings::folio) {
    // SAFETY: By the caller's promise.
    if let Ok((pfn, order)) = unsafe { block_of(folio) } {
        unpreserve_block(pfn, order);
    }
}

/// # Safety
///
/// `page` is the first of `nr` contiguous struct pages.
#[export]
unsafe extern "C" fn kho_preserve_pages(page: *mut bindings::page, nr: c_ulong) -> c_int {
    // SAFETY: By the caller's promise.
    let range = unsafe { frames_of(page, nr) };
    errno(handover::outgoing(|out| out.preserve_pages(range)))
}

/// # Safety
///
/// As for [`kho_preserve_pages`].
#[export]
unsafe extern "C" fn kho_unpreserve_pages(page: *mut bindings::page, nr: c_ulong) {
    // SAFETY: By the caller's promise.
    let range = unsafe { frames_of(page, nr) };
    match handover::outgoing(|out| Ok(out.unpreserve_pages(range))) {
        Ok(true) => {}
        _ => warn_not_preserved(range.start),
    }
}

/// # Safety
///
/// `ptr` is an address in a vmalloc area that stays as it is; `preservation` may be written.
#[export]
unsafe extern "C" fn kho_preserve_vmalloc(
    ptr: *mut c_void,
    preservation: *mut bindings::kho_vmalloc,
) -> c_int {
    // SAFETY: By the caller's promise.
    let preserved = unsafe { VmArea::at(ptr) }
        .and_then(|area| handover::outgoing(|out| vmalloc::preserve(out, &area, area.flags())));
    errno(preserved.map(|descriptor| {
        #[cfg(all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS))]
        crate::entry::inject::remember_chain(descriptor.first);
        // SAFETY: By the caller's promise.
        unsafe { vmalloc_area::store(preservation, &descriptor) }
    }))
}

/// # Safety
///
/// `preservation` was filled by [`kho_preserve_vmalloc`] and not unpreserved since.
#[export]
unsafe extern "C" fn kho_unpreserve_vmalloc(preservation: *mut bindings::kho_vmalloc) {
    // SAFETY: By the caller's promise.
    let descriptor = unsafe { vmalloc_area::load(preservation) };
    let _ = handover::outgoing(|out| {
        vmalloc::unpreserve(out, &descriptor);
        Ok(())
    });
}

#[export]
pub(super) extern "C" fn kho_alloc_preserve(size: usize) -> *mut c_void {
    alloc_preserve(size).unwrap_or_else(|err| err.to_ptr())
}

fn alloc_preserve(size: usize) -> Result<*mut c_void> {
    const MOST: usize = kernel::page::PAGE_SIZE << bindings::MAX_PAGE_ORDER;
    match size {
        0 => return Err(EINVAL),
        1..=MOST => {}
        _ => return Err(E2BIG),
    }
    // SAFETY: The size was checked.
    let folio = unsafe { glue::lu_folio_alloc(size) };
    if folio.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: A folio just allocated.
    let preserved =
        unsafe { block_of(folio.cast()) }.and_then(|(pfn, order)| preserve_block(pfn, order));
    // SAFETY: As above; on failure nobody else knows of it.
    unsafe {
        if let Err(err) = preserved {
            glue::lu_folio_put(folio);
            return Err(err);
        }
        Ok(glue::lu_folio_address(folio))
    }
}

/// # Safety
///
/// `mem` is null or came from [`kho_alloc_preserve`].
#[export]
pub(super) unsafe extern "C" fn kho_unpreserve_free(mem: *mut c_void) {
    if mem.is_null() {
        return;
    }
    // SAFETY: By the caller's promise `mem` is the start of a folio, whose reference is given up.
    unsafe {
        let folio = glue::lu_folio_of(mem);
        kho_unpreserve_folio(folio.cast());
        glue::lu_folio_put(folio);
    }
}
