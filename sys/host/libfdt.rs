// SPDX-License-Identifier: GPL-2.0

//! The system's libfdt: the functions that `sys/fdt.rs` calls.

use core::ffi::{c_char, c_int, c_void};

#[link(name = "fdt")]
extern "C" {
    pub(crate) fn fdt_create(buf: *mut c_void, size: c_int) -> c_int;
    pub(crate) fn fdt_finish_reservemap(fdt: *mut c_void) -> c_int;
    pub(crate) fn fdt_begin_node(fdt: *mut c_void, name: *const c_char) -> c_int;
    pub(crate) fn fdt_property(
        fdt: *mut c_void,
        name: *const c_char,
        value: *const c_void,
        len: c_int,
    ) -> c_int;
    pub(crate) fn fdt_end_node(fdt: *mut c_void) -> c_int;
    pub(crate) fn fdt_finish(fdt: *mut c_void) -> c_int;
    pub(crate) fn fdt_open_into(from: *const c_void, to: *mut c_void, size: c_int) -> c_int;
    pub(crate) fn fdt_pack(fdt: *mut c_void) -> c_int;
    pub(crate) fn fdt_add_subnode(fdt: *mut c_void, parent: c_int, name: *const c_char) -> c_int;
    fn fdt_setprop(
        fdt: *mut c_void,
        node: c_int,
        name: *const c_char,
        value: *const c_void,
        len: c_int,
    ) -> c_int;
    pub(crate) fn fdt_del_node(fdt: *mut c_void, node: c_int) -> c_int;
    pub(crate) fn fdt_check_header(fdt: *const c_void) -> c_int;
    pub(crate) fn fdt_node_check_compatible(
        fdt: *const c_void,
        node: c_int,
        name: *const c_char,
    ) -> c_int;
    pub(crate) fn fdt_subnode_offset(
        fdt: *const c_void,
        parent: c_int,
        name: *const c_char,
    ) -> c_int;
    pub(crate) fn fdt_get_name(fdt: *const c_void, node: c_int, len: *mut c_int) -> *const c_char;
    pub(crate) fn fdt_first_subnode(fdt: *const c_void, node: c_int) -> c_int;
    pub(crate) fn fdt_next_subnode(fdt: *const c_void, node: c_int) -> c_int;
    pub(crate) fn fdt_getprop(
        fdt: *const c_void,
        node: c_int,
        name: *const c_char,
        len: *mut c_int,
    ) -> *const c_void;
}

/// Newer than what distributions ship; the kernel's libfdt has this instead of `fdt_setprop`.
///
/// # Safety
///
/// As for `fdt_setprop`; `name` is a C string of length `_name_len`.
pub(crate) unsafe fn fdt_setprop_namelen(
    fdt: *mut c_void,
    node: c_int,
    name: *const c_char,
    _name_len: c_int,
    value: *const c_void,
    len: c_int,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe { fdt_setprop(fdt, node, name, value, len) }
}
