// SPDX-License-Identifier: GPL-2.0

//! The C API for named blobs in the root FDT: include/linux/kexec_handover.h.

use core::ffi::c_void;

use kernel::prelude::*;

use crate::kho::addr::PhysAddr;
use crate::kho::state::{self, self as handover};
use crate::sys::glue;

/// # Safety
///
/// `name` is a C string, `blob` an address in the direct map.
#[export]
unsafe extern "C" fn kho_add_subtree(name: *const c_char, blob: *mut c_void, size: usize) -> c_int {
    // SAFETY: By the caller's promise.
    let (name, at) = unsafe { (CStr::from_char_ptr(name), glue::lu_virt_to_phys(blob)) };
    match handover::add_subtree(name, PhysAddr::new(at), size) {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// # Safety
///
/// `blob` is an address in the direct map.
#[export]
unsafe extern "C" fn kho_remove_subtree(blob: *mut c_void) {
    // SAFETY: By the caller's promise.
    handover::remove_subtree(PhysAddr::new(unsafe { glue::lu_virt_to_phys(blob) }));
}

/// # Safety
///
/// `name` is a C string; `phys` and `size` are null or may be written.
#[export]
unsafe extern "C" fn kho_retrieve_subtree(
    name: *const c_char,
    phys: *mut u64,
    size: *mut usize,
) -> c_int {
    if state::handed_over().is_none() {
        return ENOENT.to_errno();
    }
    if phys.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: By the caller's promise.
    match state::find_subtree(unsafe { CStr::from_char_ptr(name) }) {
        Ok(found) => {
            // SAFETY: By the caller's promise, and they are not null.
            unsafe {
                phys.write(found.data.raw());
                if !size.is_null() {
                    size.write(found.size as usize);
                }
            }
            0
        }
        Err(err) => err.to_errno(),
    }
}
