// SPDX-License-Identifier: GPL-2.0

//! eventfds of this kernel: what C does for the handler, and the calls that come from C.

use core::ffi::c_int;

use kernel::prelude::*;

use crate::eventfd_luo::{self, EventFd, Record};
use crate::kho::addr::PhysAddr;
use crate::luo::incoming::TRY_AGAIN;
use crate::luo::memory::Records;
use crate::sys::glue;

/// An eventfd somebody else holds open, for as long as this lives.
///
/// # Invariants
///
/// Points to an open eventfd.
struct Open(*mut glue::file);

impl EventFd for Open {
    fn semaphore(&self) -> bool {
        // SAFETY: The invariant.
        unsafe { glue::lu_eventfd_semaphore(self.0) }
    }

    fn nonblocking(&self) -> bool {
        // SAFETY: The invariant.
        unsafe { glue::lu_eventfd_nonblocking(self.0) }
    }

    fn attached(&self) -> bool {
        // SAFETY: The invariant.
        unsafe { glue::lu_eventfd_attached(self.0) }
    }

    fn keep(&self, count: PhysAddr) -> Result {
        // SAFETY: The invariant. The address is in a page that stays ours until `unkeep`.
        kernel::error::to_result(unsafe { glue::lu_eventfd_keep(self.0, count.raw()) })
    }

    fn unkeep(&self) {
        // SAFETY: The invariant.
        unsafe { glue::lu_eventfd_unkeep(self.0) }
    }
}

/// # Safety
///
/// `file` is an open eventfd, and `data` may be written.
#[no_mangle]
unsafe extern "C" fn lu_eventfd_preserve(file: *mut glue::file, data: *mut u64) -> c_int {
    // INVARIANT: By the caller's promise.
    match eventfd_luo::preserve(&mut Records, &Open(file)) {
        Ok(at) => {
            // SAFETY: By the caller's promise.
            unsafe { data.write(at.raw()) };
            0
        }
        Err(err) => err.to_errno(),
    }
}

/// # Safety
///
/// `file` is an open eventfd that [`lu_eventfd_preserve`] preserved as `data`.
#[no_mangle]
unsafe extern "C" fn lu_eventfd_unpreserve(file: *mut glue::file, data: u64) {
    // INVARIANT: By the caller's promise.
    eventfd_luo::unpreserve(&mut Records, &Open(file), PhysAddr::new(data));
}

/// # Safety
///
/// As for [`lu_eventfd_unpreserve`].
#[no_mangle]
unsafe extern "C" fn lu_eventfd_freeze(file: *mut glue::file, data: u64) -> c_int {
    // INVARIANT: By the caller's promise.
    let frozen = eventfd_luo::freeze(&Open(file), PhysAddr::new(data));
    frozen.map_or_else(Error::to_errno, |()| 0)
}

fn refused(what: &str, at: PhysAddr, err: Error) {
    pr_err!(
        "cannot {what} the eventfd recorded at {:#x}: {err:?}\n",
        at.raw()
    );
}

/// # Safety
///
/// `file` may be written; `data` is not trusted.
#[no_mangle]
unsafe extern "C" fn lu_eventfd_retrieve(data: u64, file: *mut *mut glue::file) -> c_int {
    let at = PhysAddr::new(data);
    let make = |record: &Record| {
        // SAFETY: No preconditions.
        let made =
            unsafe { glue::lu_eventfd_create(record.count, record.semaphore, record.nonblocking) };
        kernel::error::from_err_ptr(made)
    };
    match eventfd_luo::retrieve(&mut Records, at, make) {
        Ok(made) => {
            // SAFETY: By the caller's promise.
            unsafe { file.write(made) };
            0
        }
        Err(err) => {
            refused("retrieve", at, err);
            match err {
                // All waits again.
                ENOMEM | ENFILE => TRY_AGAIN.to_errno(),
                err => err.to_errno(),
            }
        }
    }
}

/// `data` is not trusted.
#[no_mangle]
extern "C" fn lu_eventfd_discard(data: u64) {
    let at = PhysAddr::new(data);
    if let Err(err) = eventfd_luo::discard(&mut Records, at) {
        refused("give back", at, err);
    }
}
