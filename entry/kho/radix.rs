// SPDX-License-Identifier: GPL-2.0

//! The C API of the radix tree: include/linux/kho_radix_tree.h.

use core::ffi::c_void;
use core::ptr::null_mut;

use kernel::bindings;
use kernel::prelude::*;

use crate::kho::addr::PhysAddr;
use crate::kho::key::{Run, KEY_BITS};
use crate::kho::tree::{NodeStore, Tree, Visitor};
use crate::sys::{glue, Frame};

/// Nodes from whichever allocator runs at the time.
struct Nodes;

const NODE_BYTES: c_ulong = kernel::page::PAGE_SIZE;

impl NodeStore for Nodes {
    fn alloc(&mut self) -> Option<Frame> {
        // SAFETY: Both allocators return null or a zeroed page in the direct map.
        unsafe {
            Frame::from_virt(if glue::lu_slab_available() {
                glue::lu_zeroed_page()
            } else {
                glue::lu_boot_alloc(NODE_BYTES)
            })
        }
    }

    fn free(&mut self, node: Frame) {
        // SAFETY: Nodes of such a tree come from `alloc`, in the same phase of the boot, as callers
        // of the C API promise; nothing refers to this one any more.
        unsafe {
            if glue::lu_slab_available() {
                glue::lu_free_page(node.as_ptr());
            } else {
                glue::lu_boot_free(node.as_ptr(), NODE_BYTES, false);
            }
        }
    }
}

/// Runs `f` on a tree under its lock.
///
/// # Safety
///
/// `tree` was initialised by [`kho_radix_init_tree`] or statically.
unsafe fn with_tree<T>(
    tree: *mut bindings::kho_radix_tree,
    f: impl FnOnce(Tree) -> T,
) -> Option<T> {
    // SAFETY: By the caller's promise.
    unsafe {
        bindings::mutex_lock(&raw mut (*tree).lock);
        let root = Frame::from_virt((*tree).root.cast());
        let result = root.map(|root| f(Tree::at(root)));
        bindings::mutex_unlock(&raw mut (*tree).lock);
        kernel::warn_on!(result.is_none());
        result
    }
}

const fn one(key: c_ulong) -> Run {
    Run {
        first: key as u64,
        len: 1,
    }
}

/// # Safety
///
/// `tree` is an initialised tree.
#[export]
unsafe extern "C" fn kho_radix_add_key(tree: *mut bindings::kho_radix_tree, key: c_ulong) -> c_int {
    // SAFETY: By the caller's promise.
    match unsafe { with_tree(tree, |tree| tree.insert(one(key), &mut Nodes)) } {
        Some(Ok(())) => 0,
        Some(Err(err)) => err.to_errno(),
        None => EINVAL.to_errno(),
    }
}

/// # Safety
///
/// `tree` is an initialised tree.
#[export]
unsafe extern "C" fn kho_radix_del_key(tree: *mut bindings::kho_radix_tree, key: c_ulong) {
    // SAFETY: By the caller's promise.
    let removed = unsafe { with_tree(tree, |tree| tree.remove(one(key), &mut Nodes)) };
    if removed == Some(0) && key >> KEY_BITS == 0 {
        pr_warn!("key {key:#x} is not in the tree it is removed from\n");
    }
}

/// # Safety
///
/// `tree` is an initialised tree, `cb` valid, and `data` what its functions take. They do not
/// change the tree.
#[export]
unsafe extern "C" fn kho_radix_walk_tree(
    tree: *mut bindings::kho_radix_tree,
    cb: *const bindings::kho_radix_walk_cb,
    data: *mut c_void,
) -> c_int {
    struct Calls<'a>(&'a bindings::kho_radix_walk_cb, *mut c_void);

    impl Visitor for Calls<'_> {
        type Error = c_int;

        fn node(&mut self, at: PhysAddr) -> Result<(), c_int> {
            match self.0.node {
                // SAFETY: By the promise of `kho_radix_walk_tree`'s caller.
                Some(call) => stop_unless_zero(unsafe { call(at.raw(), self.1) }),
                None => Ok(()),
            }
        }

        fn key(&mut self, key: u64) -> Result<(), c_int> {
            match self.0.leaf {
                // SAFETY: As above.
                Some(call) => stop_unless_zero(unsafe { call(key as c_ulong, self.1) }),
                None => Ok(()),
            }
        }
    }

    // SAFETY: By the caller's promise.
    let mut calls = Calls(unsafe { &*cb }, data);
    // SAFETY: By the caller's promise.
    match unsafe { with_tree(tree, |tree| tree.walk(&mut calls)) } {
        Some(Ok(())) => 0,
        Some(Err(stop)) => stop,
        None => EINVAL.to_errno(),
    }
}

fn stop_unless_zero(code: c_int) -> Result<(), c_int> {
    if code == 0 {
        Ok(())
    } else {
        Err(code)
    }
}

/// # Safety
///
/// `tree` may be written and is used by nobody yet; `root` is null or the root of a tree.
#[export]
unsafe extern "C" fn kho_radix_init_tree(
    tree: *mut bindings::kho_radix_tree,
    root: *mut bindings::kho_radix_node,
) -> c_int {
    let root = if root.is_null() {
        match Nodes.alloc() {
            Some(new) => new.as_ptr().cast(),
            None => return ENOMEM.to_errno(),
        }
    } else {
        root
    };
    let class = kernel::static_lock_class!();
    // SAFETY: By the caller's promise; name and class live for ever.
    unsafe {
        (*tree).root = root;
        bindings::__mutex_init(
            &raw mut (*tree).lock,
            c"kho_radix_tree".as_char_ptr(),
            class.as_ptr(),
        );
    }
    0
}

/// # Safety
///
/// `tree` is an initialised tree that nobody uses any more.
#[export]
unsafe extern "C" fn kho_radix_destroy_tree(tree: *mut bindings::kho_radix_tree) {
    // SAFETY: By the caller's promise.
    unsafe {
        if let Some(root) = Frame::from_virt((*tree).root.cast()) {
            Tree::at(root).destroy(&mut Nodes);
        }
        (*tree).root = null_mut();
    }
}
