// SPDX-License-Identifier: GPL-2.0

//! Preserved sparse arrays: 64-bit values by 64-bit index, which live through a live update where
//! they are.

use core::{
    mem::ManuallyDrop,
    ops::RangeInclusive,
    ptr::{
        self,
        NonNull, //
    }, //
};

use crate::{
    bindings,
    error::{
        code::*,
        from_err_ptr,
        to_result,
        Result, //
    },
    prelude::*, //
};

use super::record::{
    Ref,
    Values, //
};

/// A preserved array: numbers by number, however far apart.
///
/// What is in it is preserved as soon as it is there, as the objects of a [`Slab`] are. Values are
/// often handles of these, which [`Slab::take`] checks. Any other number that came from the
/// previous kernel is to be checked before it is used.
///
/// Dropped, an empty array is freed. **What is in another one stays preserved for the next
/// kernel**, and nobody gets at it before that. [`Self::destroy`] frees it instead.
///
/// Any number of threads may use it. All functions may sleep.
///
/// # Examples
///
/// ```
/// use kernel::{
///     liveupdate::array::Array,
///     prelude::*, //
/// };
///
/// let array = Array::unnamed()?;
/// array.set(7, 70)?;
/// array.set(u64::MAX, 1)?;
/// assert!(array.set(7, 77)?);
/// assert_eq!(array.get(7), Some(77));
/// assert!(array.range(0..=u64::MAX).eq([(7, 77), (u64::MAX, 1)]));
/// assert!(array.clear(7));
/// assert_eq!(array.count(), 1);
/// array.destroy();
/// # Ok::<(), Error>(())
/// ```
///
/// [`Slab`]: super::slab::Slab
/// [`Slab::take`]: super::slab::Slab::take
///
/// # Invariants
///
/// `raw` is an array that this object owns.
pub struct Array {
    raw: NonNull<bindings::kho_array>,
}

// SAFETY: Any number of threads may call the functions for an array at the same time.
unsafe impl Send for Array {}
// SAFETY: As above.
unsafe impl Sync for Array {}

impl Array {
    /// Makes an array that the next kernel finds by its name; see
    /// [`Slab::create`](super::slab::Slab::create).
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] for a name in use.
    /// - [`EINVAL`] for one that cannot be, or if kexec handover is off.
    /// - [`ENOMEM`] without memory.
    pub fn create(name: &CStr) -> Result<Self> {
        if name.is_empty() {
            return Err(EINVAL);
        }
        // SAFETY: It is a C string.
        Self::own(unsafe { bindings::kho_array_create(name.as_char_ptr()) })
    }

    /// Makes an array that the next kernel finds by its handle ([`Self::handle`],
    /// [`Self::reference`]).
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if kexec handover is off; [`ENOMEM`] without memory.
    pub fn unnamed() -> Result<Self> {
        // SAFETY: There is no name.
        Self::own(unsafe { bindings::kho_array_create(ptr::null()) })
    }

    /// Takes over an array of the previous kernel by its name. It is checked as a whole first.
    ///
    /// # Errors
    ///
    /// - [`ENOENT`] if there is none of that name, or it was attached before.
    /// - [`EINVAL`] if it is damaged.
    /// - [`EIO`] if some of its memory has gone bad.
    /// - [`ENOMEM`], and it may be tried again.
    pub fn attach(name: &CStr) -> Result<Self> {
        // SAFETY: It is a C string.
        Self::own(unsafe { bindings::kho_array_attach(name.as_char_ptr()) })
    }

    /// Takes over an array that has no name by the handle it had. Fails as [`Self::attach`] does,
    /// with [`EINVAL`] for any other number.
    pub fn attach_at(handle: u64) -> Result<Self> {
        // SAFETY: The handle is looked up, not believed.
        Self::own(unsafe { bindings::kho_array_attach_at(handle) })
    }

    /// Owns what was made or taken over, if it was.
    fn own(raw: *mut bindings::kho_array) -> Result<Self> {
        let raw = NonNull::new(from_err_ptr(raw)?).ok_or(ENOMEM)?;
        // INVARIANT: Nobody else knows of it.
        Ok(Self { raw })
    }

    /// Sets a value, and says whether it takes the place of another.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; nothing has changed then.
    pub fn set(&self, index: u64, value: u64) -> Result<bool> {
        // SAFETY: It is an array.
        let done = unsafe { bindings::kho_array_set(self.raw.as_ptr(), index, value) };
        to_result(done)?;
        Ok(done == 1)
    }

    /// The value at an index.
    pub fn get(&self, index: u64) -> Option<u64> {
        let mut value = 0;
        // SAFETY: It is an array, and the value may be written.
        unsafe { bindings::kho_array_get(self.raw.as_ptr(), index, &mut value) }.then_some(value)
    }

    /// Takes out a value, and says whether there was one.
    pub fn clear(&self, index: u64) -> bool {
        // SAFETY: It is an array.
        unsafe { bindings::kho_array_clear(self.raw.as_ptr(), index) }
    }

    /// Takes out all values in a range.
    pub fn clear_range(&self, range: RangeInclusive<u64>) {
        if !range.is_empty() {
            // SAFETY: It is an array.
            unsafe {
                bindings::kho_array_clear_range(self.raw.as_ptr(), *range.start(), *range.end())
            }
        }
    }

    /// Indexes and values in a range, in order. The array may be changed meanwhile.
    pub fn range(&self, range: RangeInclusive<u64>) -> Entries<'_> {
        Entries {
            array: self,
            next: (!range.is_empty()).then_some(*range.start()),
            last: *range.end(),
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        // SAFETY: It is an array.
        unsafe { bindings::kho_array_count(self.raw.as_ptr()) }
    }

    /// What [`Self::attach_at`] finds an array without a name by.
    pub fn handle(&self) -> u64 {
        // SAFETY: It is an array.
        unsafe { bindings::kho_array_handle(self.raw.as_ptr()) }
    }

    /// A handle for a record, of an array that has no name.
    pub fn reference(&self) -> Ref<Values> {
        Ref::__new(self.handle(), 0)
    }

    /// Frees the array with all that is in it.
    pub fn destroy(self) {
        let array = ManuallyDrop::new(self);
        // SAFETY: It is an array, and nobody uses it any more.
        unsafe { bindings::kho_array_destroy(array.raw.as_ptr()) };
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // What is in it is for the next kernel; the structure that C has is lost with this one.
        if self.count() == 0 {
            // SAFETY: It is an array, and nobody uses it any more.
            unsafe { bindings::kho_array_destroy(self.raw.as_ptr()) };
        }
    }
}

impl Ref<Values> {
    /// Takes over the array it stands for, in the new kernel, as [`Array::attach_at`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Array::attach_at`].
    pub fn redeem(self) -> Result<Array> {
        match self.__into_parts() {
            (handle, 0) => Array::attach_at(handle),
            _ => Err(EINVAL),
        }
    }
}

/// Indexes and values in a range: see [`Array::range`].
pub struct Entries<'a> {
    array: &'a Array,
    /// Where nobody has looked yet, if there is such a place.
    next: Option<u64>,
    last: u64,
}

impl Iterator for Entries<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (mut index, mut value) = (self.next?, 0);
        let raw = self.array.raw.as_ptr();
        // SAFETY: It is an array; index and value may be written.
        let found = unsafe { bindings::kho_array_next(raw, &mut index, self.last, &mut value) };
        let behind = index.checked_add(1).filter(|behind| *behind <= self.last);
        self.next = behind.filter(|_| found);
        found.then_some((index, value))
    }
}
