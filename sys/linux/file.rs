// SPDX-License-Identifier: GPL-2.0

//! Files and live objects of drivers: what LUO keeps and gives back, and never looks into.

use core::ffi::c_void;
use core::ptr::null_mut;

use kernel::sync::aref::ARef;

use super::glue;

/// A file, with a reference to it.
pub(crate) type File = ARef<kernel::fs::File>;

/// The size of a file in bytes, or 0 if it is of a kind that has none.
pub(crate) fn file_bytes(file: &File) -> u64 {
    // SAFETY: The file is referenced.
    unsafe { glue::lu_file_bytes(file.as_ptr().cast()) }
}

/// A driver's live object, shared by files; opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object(*mut c_void);

// SAFETY: An address, which only the driver makes anything of.
unsafe impl Send for Object {}

impl Object {
    pub(crate) const NULL: Self = Self(null_mut());

    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn from_raw(object: *mut c_void) -> Self {
        Self(object)
    }

    pub(crate) fn raw(self) -> *mut c_void {
        self.0
    }
}
