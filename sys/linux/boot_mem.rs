// SPDX-License-Identifier: GPL-2.0

//! Arrays that can be allocated before any allocator but memblock runs.

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::glue;
use zerocopy::FromZeros;

/// An owned array of `T`, all zeros at first or all alike.
///
/// # Invariants
///
/// Points to `len` values of `T` that this owns.
pub(crate) struct BootSlice<T> {
    start: NonNull<T>,
    len: usize,
    from_slab: bool,
}

// SAFETY: It owns what it points to.
unsafe impl<T: Send> Send for BootSlice<T> {}

// SAFETY: As above; shared, it is only read.
unsafe impl<T: Sync> Sync for BootSlice<T> {}

impl<T: FromZeros> BootSlice<T> {
    /// `None` when memory is out or `len` is zero.
    pub(crate) fn new(len: usize) -> Option<Self> {
        // INVARIANT: Zeros are a `T`.
        Self::zeroed(len)
    }
}

impl<T> BootSlice<T> {
    /// As [`Self::new`], of what `make` returns.
    pub(crate) fn filled(len: usize, make: impl Fn() -> T) -> Option<Self> {
        const { assert!(!core::mem::needs_drop::<T>()) };
        let slice = Self::zeroed(len)?;
        for index in 0..len {
            // SAFETY: In bounds of what was allocated, and aligned.
            unsafe { slice.start.add(index).write(make()) };
        }
        // INVARIANT: Each of them was written.
        Some(slice)
    }

    /// Zeros, which need not be a `T` yet.
    fn zeroed(len: usize) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<T>())?;
        // SAFETY: No preconditions.
        let from_slab = unsafe { glue::lu_slab_available() };
        if bytes == 0 {
            return None;
        }
        // SAFETY: No preconditions; both allocators align to at least a word, as `T`s here need.
        let memory = unsafe { glue::lu_boot_alloc(bytes) };
        const { assert!(align_of::<T>() <= 8) };
        Some(Self {
            start: NonNull::new(memory.cast())?,
            len,
            from_slab,
        })
    }
}

impl<T> Deref for BootSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: The invariant.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for BootSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: As in `deref`, and `self` is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for BootSlice<T> {
    fn drop(&mut self) {
        let bytes = self.len * size_of::<T>();
        // SAFETY: Allocated in `new` with this size from this allocator.
        unsafe { glue::lu_boot_free(self.start.as_ptr().cast(), bytes, self.from_slab) }
    }
}
