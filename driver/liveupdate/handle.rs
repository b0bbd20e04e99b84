// SPDX-License-Identifier: GPL-2.0

//! Handles: the 64 bits that are stored for a file, and the memory they stand for.

use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of, //
    },
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
};

use zerocopy::{
    FromBytes,
    Immutable,
    IntoBytes, //
};

use crate::{
    bindings,
    error::{
        code::*,
        from_err_ptr,
        Result, //
    },
    page::PAGE_SIZE, //
};

mod sealed {
    /// Keeps conversions from and to a raw number inside this module.
    pub trait Sealed: Sized {
        fn into_raw(self) -> u64;
        fn from_raw(raw: u64) -> Self;
    }
}

pub(super) use sealed::Sealed;

/// What can be stored for a file: a [`Handle`] to preserved memory, or a [`Number`].
///
/// In the new kernel a handle is what the previous kernel wrote, which may be anything.
pub trait AnyHandle: Sealed + Send {
    /// Gives back what the handle stands for, unused.
    ///
    /// That is the one page, or few, of a [`Handle`]. If what is written in it names more memory,
    /// its handler must take it and give that back too.
    fn discard(self);
}

/// A number as a handle, for files that need nothing but a number in the new kernel.
///
/// # Examples
///
/// ```
/// use kernel::liveupdate::Number;
///
/// assert_eq!(Number::new(7).get(), 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(u64);

impl Number {
    /// A handle that is `value`.
    #[inline]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number. In the new kernel nobody has checked it yet.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Sealed for Number {
    fn into_raw(self) -> u64 {
        self.0
    }

    fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

impl AnyHandle for Number {
    fn discard(self) {}
}

/// Memory holding a `T` that the next kernel gets: the old kernel's side.
///
/// The memory is physically contiguous, has pages of its own and is at most `PAGE_SIZE <<
/// MAX_PAGE_ORDER` bytes. It may be written until the kexec. Dropping it takes the preservation
/// back and frees it; the kexec drops nothing.
///
/// # Invariants
///
/// `memory` came from `kho_alloc_preserve()`, is owned by this object, and holds a valid `T`.
pub struct Preserved<T: FromBytes + IntoBytes + Immutable> {
    memory: NonNull<T>,
}

// SAFETY: The memory is owned, as in a `KBox`, and can be freed by any task.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Send> Send for Preserved<T> {}
// SAFETY: Through a shared reference there is only shared access to the `T`.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Sync> Sync for Preserved<T> {}

impl<T: FromBytes + IntoBytes + Immutable> Preserved<T> {
    const FITS: () = {
        assert!(size_of::<T>() > 0, "nothing to preserve");
        assert!(align_of::<T>() <= PAGE_SIZE, "aligned to pages at most");
    };

    /// Preserves `value`.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] without memory for it, or for recording it.
    /// - [`E2BIG`] if it is larger than the page allocator's largest block.
    /// - [`EOPNOTSUPP`] if kexec handover is off.
    pub fn new(value: T) -> Result<Self> {
        let mut new = Self::zeroed()?;
        *new = value;
        Ok(new)
    }

    /// Preserves a `T` of zero bytes, to be filled in place. Fails as [`Self::new`] does.
    pub fn zeroed() -> Result<Self> {
        let () = Self::FITS;
        // SAFETY: No preconditions.
        let memory = from_err_ptr(unsafe { bindings::kho_alloc_preserve(size_of::<T>()) })?;
        let memory = NonNull::new(memory.cast()).ok_or(ENOMEM)?;
        #[cfg(CONFIG_KUNIT)]
        super::testing::note(phys_of(memory));
        // INVARIANT: Allocated right here. It was zeroed, and as `T` is `FromBytes`, any bytes are
        // a valid one. Pages are aligned well enough, see `FITS`.
        Ok(Self { memory })
    }

    /// What the new kernel takes it back with.
    pub fn handle(&self) -> Handle<T> {
        Handle {
            phys: phys_of(self.memory),
            _memory: PhantomData,
        }
    }
}

/// The physical address of memory from the page allocator.
fn phys_of<T>(memory: NonNull<T>) -> u64 {
    // SAFETY: The callers pass memory from the page allocator, which the linear map covers.
    unsafe { bindings::virt_to_phys(memory.as_ptr().cast()) }
}

impl<T: FromBytes + IntoBytes + Immutable> Deref for Preserved<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the invariants it holds a valid `T`; it is owned, and borrowed as `self` is.
        unsafe { self.memory.as_ref() }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> DerefMut for Preserved<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As in `deref`, and `self` is borrowed exclusively.
        unsafe { self.memory.as_mut() }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Drop for Preserved<T> {
    fn drop(&mut self) {
        #[cfg(CONFIG_KUNIT)]
        super::testing::forget(phys_of(self.memory));
        // SAFETY: By the invariants it came from `kho_alloc_preserve()` and is owned. There is no
        // drop glue to run: plain bytes have none.
        unsafe { bindings::kho_unpreserve_free(self.memory.as_ptr().cast()) };
    }
}

/// The address of [`Preserved`] memory holding a `T`, on its way to the new kernel.
///
/// Nothing is believed of it: it may come from a kernel with bugs. [`Handle::take`] gives the
/// memory only if it was preserved and nobody else has it.
pub struct Handle<T> {
    phys: u64,
    _memory: PhantomData<fn() -> T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Handle<T> {
    /// Takes the memory back, in the new kernel. It can be taken once.
    ///
    /// The bytes in it are whatever was written there. Every number among them is to be checked
    /// before it is used.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the handle is not the address of a page, or what is preserved there is
    ///   smaller than a `T`.
    /// - [`ENOENT`] if nothing is preserved at that address, or it was taken before.
    pub fn take(self) -> Result<Restored<T>> {
        let () = Preserved::<T>::FITS;
        let address = usize::try_from(self.phys)?;
        if address == 0 || address % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        let folio = folio_at(self.phys).ok_or(ENOENT)?;
        // From here on the folio is given back if anything is wrong with it.
        // SAFETY: `folio_at` gives a folio whose one reference is ours.
        let memory = unsafe { bindings::folio_address(folio.as_ptr()) };
        let memory = NonNull::new(memory.cast());
        // SAFETY: As above.
        let size = unsafe { bindings::folio_size(folio.as_ptr()) };
        match memory {
            // INVARIANT: The reference came from `folio_at`. `T` is `FromBytes`, so that any bytes
            // are a valid one; they are enough, and pages are aligned well enough, see `FITS`.
            Some(memory) if size >= size_of::<T>() => Ok(Restored { memory, folio }),
            _ => {
                // SAFETY: The reference is ours, and not used any more.
                unsafe { bindings::folio_put(folio.as_ptr()) };
                Err(EINVAL)
            }
        }
    }
}

/// Takes the folio that was preserved at `phys`, a multiple of the page size, with one reference.
fn folio_at(phys: u64) -> Option<NonNull<bindings::folio>> {
    #[cfg(CONFIG_KUNIT)]
    if let Some(folio) = super::testing::take(phys) {
        return Some(folio);
    }
    // SAFETY: No preconditions: for an address where nothing is preserved, or which was given out
    // before, the result is null.
    NonNull::new(unsafe { bindings::kho_restore_folio(phys) })
}

impl<T> Sealed for Handle<T> {
    fn into_raw(self) -> u64 {
        self.phys
    }

    fn from_raw(raw: u64) -> Self {
        Self {
            phys: raw,
            _memory: PhantomData,
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> AnyHandle for Handle<T> {
    fn discard(self) {
        drop(self.take());
    }
}

/// Memory holding a `T` that the previous kernel preserved. Dropping it frees it.
///
/// # Invariants
///
/// `folio` is a reference that is owned by this object; `memory` is its address and holds a valid
/// `T`.
pub struct Restored<T: FromBytes + IntoBytes + Immutable> {
    memory: NonNull<T>,
    folio: NonNull<bindings::folio>,
}

// SAFETY: The memory is owned, as in a `KBox`, and can be freed by any task.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Send> Send for Restored<T> {}
// SAFETY: Through a shared reference there is only shared access to the `T`.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Sync> Sync for Restored<T> {}

impl<T: FromBytes + IntoBytes + Immutable> Deref for Restored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the invariants it holds a valid `T`; it is owned, and borrowed as `self` is.
        unsafe { self.memory.as_ref() }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Drop for Restored<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants the reference is ours, and this is its last use. There is no
        // drop glue to run: plain bytes have none.
        unsafe { bindings::folio_put(self.folio.as_ptr()) };
    }
}
