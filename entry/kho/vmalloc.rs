// SPDX-License-Identifier: GPL-2.0

//! vmalloc areas of this kernel, and the descriptor as C has it.

use core::ffi::c_void;

use kernel::bindings;

use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::vmalloc::{Area, Descriptor};
use crate::sys::error::{to_result, Result, EINVAL};
use crate::sys::glue;

/// A live vmalloc area.
///
/// # Invariants
///
/// `area.pages` has `area.nr_pages` entries, in contiguous blocks of `order`.
pub(super) struct VmArea {
    area: glue::lu_area,
    order: Order,
}

impl VmArea {
    /// The area at an address.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is none, `EOPNOTSUPP` if it is of a kind that cannot be handed over.
    ///
    /// # Safety
    ///
    /// The area stays as it is while this lives.
    pub(super) unsafe fn at(ptr: *mut c_void) -> Result<Self> {
        let mut area = glue::lu_area {
            pages: core::ptr::null_mut(),
            nr_pages: 0,
            order: 0,
            flags: 0,
        };
        // SAFETY: `area` may be written; the address is only looked up.
        to_result(unsafe { glue::lu_vmalloc_describe(ptr, &mut area) })?;
        let order = Order::new(area.order).ok_or(EINVAL)?;
        Ok(Self { area, order })
    }

    pub(super) fn flags(&self) -> u16 {
        self.area.flags
    }
}

impl Area for VmArea {
    fn pages(&self) -> u32 {
        self.area.nr_pages
    }

    fn order(&self) -> Order {
        self.order
    }

    fn pfn(&self, index: u32) -> Pfn {
        if index >= self.area.nr_pages {
            return Pfn::new(0);
        }
        // SAFETY: The invariant, and the index was checked.
        Pfn::new(unsafe { glue::lu_page_to_pfn(glue::lu_area_page(&self.area, index)) })
    }
}

/// Reads a descriptor.
///
/// # Safety
///
/// `from` may be read.
pub(super) unsafe fn load(from: *const bindings::kho_vmalloc) -> Descriptor {
    // SAFETY: By the caller's promise; it may be unaligned, as in an FDT property.
    let raw = unsafe { from.read_unaligned() };
    Descriptor {
        // SAFETY: Both members of the union are 64 bits, any of which are an address.
        first: PhysAddr::new(unsafe { raw.first.phys }),
        total_pages: raw.total_pages,
        flags: raw.flags,
        order: raw.order,
    }
}

/// Writes a descriptor.
///
/// # Safety
///
/// `to` may be written.
pub(super) unsafe fn store(to: *mut bindings::kho_vmalloc, descriptor: &Descriptor) {
    let raw = bindings::kho_vmalloc {
        first: bindings::kho_vmalloc__bindgen_ty_1 {
            phys: descriptor.first.raw(),
        },
        total_pages: descriptor.total_pages,
        flags: descriptor.flags,
        order: descriptor.order,
    };
    // SAFETY: By the caller's promise.
    unsafe { to.write_unaligned(raw) };
}
