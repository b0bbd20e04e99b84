// SPDX-License-Identifier: GPL-2.0

//! Records in memory that is handed over, and what the handles in them are redeemed for.

use core::{
    marker::PhantomData,
    mem::size_of,
    ptr::NonNull, //
};

use zerocopy::{
    FromBytes,
    Immutable,
    IntoBytes, //
};

use crate::{
    alloc::{
        flags::{
            __GFP_ZERO, //
            GFP_KERNEL,
        },
        VVec, //
    },
    bindings,
    error::{
        code::*,
        to_result,
        Error,
        Result, //
    },
    page::PAGE_SIZE, //
};

use super::{
    handle::Sealed,
    record::{
        Area,
        Encoded,
        Fault,
        Handover,
        Item,
        Memory,
        Page,
        Ref, //
    },
    AnyHandle,
    Handle,
    Preserved,
    Restored, //
};

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Version => EPROTONOSUPPORT,
            Fault::Unsaid(_) => EOPNOTSUPP,
            Fault::Length | Fault::Layout | Fault::Value(_) => EINVAL,
        }
    }
}

/// A record of `T` in memory of its own that the next kernel gets: the old kernel's side.
///
/// Dropping it takes the preservation back; the kexec drops nothing.
pub struct PreservedRecord<T: Handover> {
    memory: Preserved<Encoded<T>>,
    version: u32,
}

impl<T: Handover> PreservedRecord<T> {
    /// Preserves `value`, written as `version`.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`] if the version cannot say the value, or if kexec handover is off.
    /// - [`EPROTONOSUPPORT`] if there is no such version.
    /// - [`ENOMEM`] without memory.
    pub fn new(value: &T, version: u32) -> Result<Self> {
        let mut new = Self {
            memory: Preserved::zeroed()?,
            version,
        };
        new.update(value)?;
        Ok(new)
    }

    /// Writes another value, in the same version.
    ///
    /// # Errors
    ///
    /// Those of [`Self::new`] but `ENOMEM`; what is written then is no record, until this is called
    /// again.
    pub fn update(&mut self, value: &T) -> Result {
        value.encode_into(self.version, self.memory.as_mut_bytes())?;
        Ok(())
    }

    /// What LUO stores for it.
    pub fn handle(&self) -> RecordHandle<T> {
        RecordHandle(self.memory.handle())
    }

    /// A handle for another record.
    pub fn reference(&self) -> Ref<Page<T>> {
        Ref::__new(self.memory.handle().into_raw(), 0)
    }
}

/// The address of a record, on its way to the new kernel: what a file handler's or an FLB's
/// `Handle` is.
pub struct RecordHandle<T: Handover>(Handle<Encoded<T>>);

impl<T: Handover> RecordHandle<T> {
    /// Takes the record, in the new kernel, and frees its memory. It can be taken once. A record of
    /// an older version is read as well.
    ///
    /// # Errors
    ///
    /// Those of [`Handle::take`], and what is wrong with the bytes: `EPROTONOSUPPORT` for a version
    /// that is unknown, `EINVAL` for the rest.
    pub fn take(self) -> Result<T> {
        let memory = self.0.take()?;
        Ok(T::decode(memory.as_bytes())?)
    }
}

impl<T: Handover> Sealed for RecordHandle<T> {
    fn into_raw(self) -> u64 {
        self.0.into_raw()
    }

    fn from_raw(raw: u64) -> Self {
        Self(Handle::from_raw(raw))
    }
}

impl<T: Handover> AnyHandle for RecordHandle<T> {
    fn discard(self) {
        self.0.discard();
    }
}

impl<T: Handover> Ref<Page<T>> {
    /// Takes the record it stands for, in the new kernel, as [`RecordHandle::take`] does.
    ///
    /// # Errors
    ///
    /// Those of [`RecordHandle::take`]: `ENOENT` if it was redeemed before, `EINVAL` if another
    /// struct is there.
    pub fn redeem(self) -> Result<T> {
        let (address, _) = self.__into_parts();
        RecordHandle::from_raw(address).take()
    }
}

impl<T: Item + FromBytes + IntoBytes + Immutable> Preserved<T> {
    /// A handle for a record.
    pub fn reference(&self) -> Ref<Memory<T>> {
        Ref::__new(self.handle().into_raw(), 0)
    }
}

impl<T: Item + FromBytes + IntoBytes + Immutable> Ref<Memory<T>> {
    /// Takes the memory it stands for, in the new kernel, as [`Handle::take`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Handle::take`]; [`EINVAL`] if it cannot be such a handle.
    pub fn redeem(self) -> Result<Restored<T>> {
        match self.__into_parts() {
            (address, 0) => Handle::from_raw(address).take(),
            _ => Err(EINVAL),
        }
    }
}

/// A table of records of `T`, of any length, that the next kernel gets: the old kernel's side.
///
/// It is a vmalloc area. Dropping it takes the preservation back and frees it; the kexec drops
/// nothing.
///
/// # Invariants
///
/// `_memory` is what `preservation` says, and preserved.
pub struct PreservedArea<T: Handover> {
    _memory: VVec<u8>,
    preservation: bindings::kho_vmalloc,
    _record: PhantomData<fn() -> T>,
}

// SAFETY: The area is owned, as in a `VVec`; what else there is are numbers.
unsafe impl<T: Handover> Send for PreservedArea<T> {}
// SAFETY: Through a shared reference nothing is written.
unsafe impl<T: Handover> Sync for PreservedArea<T> {}

impl<T: Handover> PreservedArea<T> {
    /// Preserves these records, written in the newest version. How many there are is for the record
    /// with the handle to say.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] for none.
    /// - [`ENOMEM`] without memory.
    /// - [`EOPNOTSUPP`] if kexec handover is off.
    pub fn new<'a>(records: impl ExactSizeIterator<Item = &'a T>) -> Result<Self>
    where
        T: 'a,
    {
        let stride = size_of::<Encoded<T>>();
        let size = records.len().checked_mul(stride).ok_or(EINVAL)?;
        if size == 0 {
            return Err(EINVAL);
        }
        // Whole pages are handed over: what is behind the records is zero as well.
        let mut memory = VVec::with_capacity(size, GFP_KERNEL | __GFP_ZERO)?;
        memory.resize(size, 0, GFP_KERNEL)?;
        for (to, record) in memory.chunks_exact_mut(stride).zip(records) {
            record.encode_into(T::VERSION, to)?;
        }
        let mut preservation = bindings::kho_vmalloc::default();
        // SAFETY: The vector is not empty, so that it is a vmalloc area, and owned.
        to_result(unsafe {
            bindings::kho_preserve_vmalloc(memory.as_mut_ptr().cast(), &mut preservation)
        })?;
        // INVARIANT: Preserved right here.
        Ok(Self {
            _memory: memory,
            preservation,
            _record: PhantomData,
        })
    }

    /// A handle for a record.
    pub fn reference(&self) -> Ref<Area<T>> {
        let area = &self.preservation;
        // SAFETY: Both members of the union are 64 bits; what was written is the address.
        let first = unsafe { area.first.phys };
        let detail =
            u64::from(area.total_pages) | u64::from(area.flags) << 32 | u64::from(area.order) << 48;
        Ref::__new(first, detail)
    }
}

impl<T: Handover> Drop for PreservedArea<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants it is preserved; this is done once.
        unsafe { bindings::kho_unpreserve_vmalloc(&mut self.preservation) };
    }
}

impl<T: Handover> Ref<Area<T>> {
    /// Takes the table it stands for, in the new kernel. It can be taken once.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if no area is preserved there, it was taken before, or there is no memory to map
    /// it.
    pub fn redeem(self) -> Result<RestoredArea<T>> {
        let (first, detail) = self.__into_parts();
        let mut area = bindings::kho_vmalloc::default();
        area.first.phys = first;
        // Each is as many bits of it.
        area.total_pages = detail as u32;
        area.flags = (detail >> 32) as u16;
        area.order = (detail >> 48) as u16;
        // SAFETY: Nothing is expected of what it says.
        let memory = unsafe { bindings::kho_restore_vmalloc(&area) };
        let memory = NonNull::new(memory.cast::<u8>()).ok_or(EINVAL)?;
        let size = usize::try_from(area.total_pages)?.saturating_mul(PAGE_SIZE);
        // INVARIANT: Restored right here; KHO found that it has so many pages.
        Ok(RestoredArea {
            memory,
            size,
            _record: PhantomData,
        })
    }

    /// Gives back what it stands for, unread.
    pub fn discard(self) {
        drop(self.redeem());
    }
}

/// A table of records that the previous kernel preserved. Dropping it frees it.
///
/// # Invariants
///
/// `memory` is a vmalloc area of `size` bytes that this object owns.
pub struct RestoredArea<T: Handover> {
    memory: NonNull<u8>,
    size: usize,
    _record: PhantomData<fn() -> T>,
}

// SAFETY: The memory is owned, and only read.
unsafe impl<T: Handover> Send for RestoredArea<T> {}
// SAFETY: As above.
unsafe impl<T: Handover> Sync for RestoredArea<T> {}

impl<T: Handover> RestoredArea<T> {
    /// The record at a place, of any version that was the newest one of who wrote the table.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the table has no such place, or no record is there; `EPROTONOSUPPORT` for a
    /// version that is unknown.
    pub fn get(&self, index: usize) -> Result<T> {
        // SAFETY: By the invariants.
        let bytes = unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), self.size) };
        // All are as long as the first.
        let stride = bytes.get(8..12).ok_or(EINVAL)?;
        let stride = u32::from_le_bytes(stride.try_into().map_err(|_| EINVAL)?);
        let stride = usize::try_from(stride)?;
        let from = index.checked_mul(stride).ok_or(EINVAL)?;
        Ok(T::decode(bytes.get(from..).ok_or(EINVAL)?)?)
    }
}

impl<T: Handover> Drop for RestoredArea<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants it is a vmalloc area, and this is its last use.
        unsafe { bindings::vfree(self.memory.as_ptr().cast()) };
    }
}
