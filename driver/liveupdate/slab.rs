// SPDX-License-Identifier: GPL-2.0

//! Preserved slab caches: objects of one type that live through a live update where they are.

use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};

use zerocopy::Immutable;

use crate::{
    bindings,
    error::{
        code::*,
        from_err_ptr,
        Result, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        barrier,
        Arc,
        Mutex,
        UniqueArc, //
    }, //
};

use super::record::{
    Cache,
    Item,
    Ref,
    Slot, //
};

/// What the previous kernel left in a cache, and nobody has taken yet.
struct Untaken {
    /// Physical addresses, in order. What was taken has [`TAKEN`] added.
    addresses: VVec<u64>,
    /// Those before it were taken.
    next: usize,
    /// How many were not.
    count: usize,
}

/// No address has this bit.
const TAKEN: u64 = 1 << 63;

impl Untaken {
    const NONE: Self = Self {
        addresses: VVec::new(),
        next: 0,
        count: 0,
    };

    /// The place of an address that nobody has taken.
    fn find(&self, address: u64) -> Option<usize> {
        let found = self
            .addresses
            .binary_search_by_key(&address, |known| known & !TAKEN)
            .ok()?;
        (self.addresses.get(found) == Some(&address)).then_some(found)
    }

    /// The place of the first one.
    fn first(&mut self) -> Option<usize> {
        let rest = self.addresses.get(self.next..)?;
        self.next += rest.iter().position(|address| address & TAKEN == 0)?;
        Some(self.next)
    }

    /// Takes the one at a place.
    fn take(&mut self, place: usize) {
        if let Some(address) = self.addresses.get_mut(place) {
            *address |= TAKEN;
            self.count = self.count.saturating_sub(1);
        }
        if self.count == 0 {
            *self = Self::NONE;
        }
    }
}

/// A cache, shared by its slabs and its objects.
///
/// # Invariants
///
/// `raw` is a cache that this object owns. An object in it belongs to one [`Object`], or to nobody:
/// then it was kept, or it is one of `untaken`, or `listed` is not set, in which case there is no
/// [`Object`] at all.
#[pin_data(PinnedDrop)]
struct Owned {
    raw: NonNull<bindings::kho_slab>,
    /// All in it is to go with it.
    doomed: Atomic<bool>,
    /// What the previous kernel left was looked up.
    listed: Atomic<bool>,
    #[pin]
    untaken: Mutex<Untaken>,
}

// SAFETY: Any number of threads may call the functions for a cache at the same time.
unsafe impl Send for Owned {}
// SAFETY: As above.
unsafe impl Sync for Owned {}

impl Owned {
    /// Owns the cache that `get` makes or takes over, if it does.
    fn new(get: impl FnOnce() -> *mut bindings::kho_slab, listed: bool) -> Result<Arc<Self>> {
        // Before there is a cache: one that was taken over cannot be put back.
        let room = UniqueArc::new_uninit(GFP_KERNEL)?;
        let raw = NonNull::new(from_err_ptr(get())?).ok_or(ENOMEM)?;
        // INVARIANT: The cache is ours. If it is new there is nothing in it.
        let Ok(owned) = room.pin_init_with(pin_init!(Self {
            raw,
            doomed: Atomic::new(false),
            listed: Atomic::new(listed),
            untaken <- new_mutex!(Untaken::NONE),
        }));
        Ok(owned.into())
    }

    fn raw(&self) -> *mut bindings::kho_slab {
        self.raw.as_ptr()
    }

    fn count(&self) -> u64 {
        // SAFETY: It is a cache.
        unsafe { bindings::kho_slab_count(self.raw()) }
    }

    /// The physical address of an object; 0 for what is none.
    fn address<T>(&self, object: NonNull<T>) -> u64 {
        // SAFETY: It is a cache. Nothing is expected of what the pointer points to.
        unsafe { bindings::kho_slab_phys(self.raw(), object.as_ptr().cast()) }
    }

    /// The object at a physical address, if there is one.
    fn at<T>(&self, address: u64) -> Option<NonNull<T>> {
        // SAFETY: It is a cache.
        let object = unsafe { bindings::kho_slab_object(self.raw(), address) };
        NonNull::new(object.cast())
    }

    /// The next allocated object, whether or not anything refers to it.
    fn next(&self, position: &mut u64) -> Option<NonNull<c_void>> {
        // SAFETY: It is a cache, and the position may be written.
        NonNull::new(unsafe { bindings::kho_slab_next(self.raw(), position) })
    }

    /// Looks up what the previous kernel left, if that was not done.
    fn list(&self) -> Result {
        if self.listed.load(Acquire) {
            return Ok(());
        }
        let mut untaken = self.untaken.lock();
        if self.listed.load(Relaxed) {
            return Ok(());
        }
        let mut addresses = VVec::with_capacity(usize::try_from(self.count())?, GFP_KERNEL)?;
        let mut position = 0;
        // The position only grows.
        while let Some(object) = self.next(&mut position) {
            addresses.push(self.address(object), GFP_KERNEL)?;
        }
        addresses.sort_unstable();
        let count = addresses.len();
        *untaken = Untaken {
            addresses,
            next: 0,
            count,
        };
        // INVARIANT: No object was given out before this is set, so all of them are listed.
        self.listed.store(true, Release);
        Ok(())
    }
}

#[pinned_drop]
impl PinnedDrop for Owned {
    fn drop(self: Pin<&mut Self>) {
        // What is in it is for the next kernel; the structure that C has is lost with this one.
        if self.doomed.load(Relaxed) || self.count() == 0 {
            // SAFETY: It is a cache, which nobody uses any more: each `Object` has a reference.
            unsafe { bindings::kho_slab_destroy(self.raw()) };
        }
    }
}

/// A preserved cache of objects of type `T`.
///
/// An object is preserved from the moment it is allocated until it is freed. There is nothing to
/// write down before the kexec, and nothing to do: what is in the cache when the machine jumps is
/// in it when the next kernel attaches it. As all bytes are a `T`, so is whatever a kernel with
/// bugs left there; **its numbers are to be checked**, as any that come from another kernel.
///
/// This is a shared owner: clones are the same cache. The cache goes with the last slab and the
/// last [`Object`] of it if there is nothing left in it.
/// **What is in it then stays preserved for the next kernel**, and nobody gets at it before that.
/// [`Self::destroy`] frees it instead.
///
/// The objects that came with a cache are not those of whoever attached it until they are asked
/// for: all that are left, one by one ([`Self::left`]), or a particular one by its handle
/// ([`Self::take`]). Each is given out once, which is what makes an [`Object`] an exclusive owner
/// without `unsafe`. The two may be mixed, and new objects allocated in between. What nobody takes
/// stays allocated, and preserved.
///
/// Any number of threads may use it. All functions may sleep.
///
/// # Examples
///
/// ```
/// use kernel::{
///     liveupdate::slab::Slab,
///     prelude::*, //
/// };
///
/// let slab = Slab::<[u64; 2]>::unnamed()?;
/// let mut pair = slab.alloc([1, 2])?;
/// pair[1] = 3;
/// assert_eq!(*pair, [1, 3]);
/// assert_eq!(slab.count(), 1);
/// // There was no previous kernel that left any.
/// assert_eq!(slab.left()?.count(), 0);
/// assert_eq!(slab.take(pair.handle()).err(), Some(ENOENT));
/// drop(pair);
/// assert_eq!(slab.count(), 0);
/// # Ok::<(), Error>(())
/// ```
pub struct Slab<T: FromBytes + IntoBytes + Immutable> {
    owned: Arc<Owned>,
    _objects: PhantomData<fn(T) -> T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Slab<T> {
    const FITS: () = {
        assert!(size_of::<T>() > 0, "nothing to preserve");
        assert!(size_of::<T>() <= PAGE_SIZE, "an object is a page at most");
        assert!(align_of::<T>() <= PAGE_SIZE, "aligned to pages at most");
    };

    /// Makes a cache that the next kernel finds by its name: up to 48 letters, digits and `-_.`.
    /// All there is room for is some thirty names.
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
        Self::new(true, |size, align| unsafe {
            bindings::kho_slab_create(name.as_char_ptr(), size, align, None)
        })
    }

    /// Makes a cache that the next kernel finds by its handle ([`Self::handle`],
    /// [`Self::reference`]).
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if kexec handover is off; [`ENOMEM`] without memory.
    pub fn unnamed() -> Result<Self> {
        // SAFETY: There is no name.
        Self::new(true, |size, align| unsafe {
            bindings::kho_slab_create(ptr::null(), size, align, None)
        })
    }

    /// Takes over a cache of the previous kernel by its name. It is checked as a whole first.
    ///
    /// Only size and alignment say that its objects are such as `T`: another layout is another
    /// name.
    ///
    /// # Errors
    ///
    /// - [`ENOENT`] if there is none of that name, or it was attached before.
    /// - [`EINVAL`] if it is damaged, or of objects of another size or alignment.
    /// - [`EIO`] if some of its memory has gone bad.
    /// - [`ENOMEM`], and it may be tried again.
    pub fn attach(name: &CStr) -> Result<Self> {
        // SAFETY: It is a C string.
        Self::new(false, |size, align| unsafe {
            bindings::kho_slab_attach(name.as_char_ptr(), size, align, None)
        })
    }

    /// Takes over a cache that has no name by the handle it had. Fails as [`Self::attach`] does,
    /// with [`EINVAL`] for any other number.
    pub fn attach_at(handle: u64) -> Result<Self> {
        // SAFETY: The handle is looked up, not believed.
        Self::new(false, |size, align| unsafe {
            bindings::kho_slab_attach_at(handle, size, align, None)
        })
    }

    fn new(
        listed: bool,
        get: impl FnOnce(usize, usize) -> *mut bindings::kho_slab,
    ) -> Result<Self> {
        let () = Self::FITS;
        let owned = Owned::new(|| get(size_of::<T>(), align_of::<T>()), listed)?;
        Ok(Self {
            owned,
            _objects: PhantomData,
        })
    }

    /// Allocates an object and makes it `value`.
    ///
    /// It is preserved while it is still zero. Should the machine jump in between, the next kernel
    /// finds a `T` of zero bytes: let these say that there is nothing.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn alloc(&self, value: T) -> Result<Object<T>> {
        // What is allocated by this kernel is not what the other one left.
        self.owned.list()?;
        // SAFETY: It is a cache.
        let memory = unsafe { bindings::kho_slab_alloc(self.owned.raw()) };
        let memory = NonNull::new(memory.cast::<T>()).ok_or(ENOMEM)?;
        // SAFETY: The memory is ours alone, as large as a `T`, and aligned for it.
        unsafe { memory.write(value) };
        // INVARIANT: Allocated and written right here.
        Ok(Object {
            memory,
            owned: self.owned.clone(),
        })
    }

    /// Takes the object that the previous kernel called by this handle. It can be taken once.
    ///
    /// # Errors
    ///
    /// - [`ENOENT`] if there is none: the handle is made up, or of another cache, or the object was
    ///   taken before, or it is one of this kernel's.
    /// - [`ENOMEM`], and it may be tried again.
    pub fn take(&self, handle: u64) -> Result<Object<T>> {
        self.owned.list()?;
        let mut untaken = self.owned.untaken.lock();
        let place = untaken.find(handle).ok_or(ENOENT)?;
        let object = self.object(handle).ok_or(ENOENT)?;
        untaken.take(place);
        Ok(object)
    }

    /// The objects that the previous kernel left and nobody has taken yet, in no order that means
    /// anything. Those that are met are taken.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], and it may be tried again.
    pub fn left(&self) -> Result<Left<'_, T>> {
        self.owned.list()?;
        Ok(Left { slab: self })
    }

    /// The object at an address of `untaken`, for who takes it from there.
    fn object(&self, address: u64) -> Option<Object<T>> {
        // INVARIANT: By those of `Owned` nobody has the object. `T` is `FromBytes`, so that any
        // bytes are a valid one; the cache is of objects of its size and alignment.
        Some(Object {
            memory: self.owned.at(address)?,
            owned: self.owned.clone(),
        })
    }

    /// How many objects are allocated.
    pub fn count(&self) -> u64 {
        self.owned.count()
    }

    /// What [`Self::attach_at`] finds a cache without a name by.
    pub fn handle(&self) -> u64 {
        // SAFETY: It is a cache.
        unsafe { bindings::kho_slab_handle(self.owned.raw()) }
    }

    /// A handle for a record, of a cache that has no name.
    pub fn reference(&self) -> Ref<Cache<T>>
    where
        T: Item,
    {
        Ref::__new(self.handle(), 0)
    }

    /// Frees the cache, with all objects that nobody has. It happens once the last [`Object`] and
    /// the last clone are dropped.
    pub fn destroy(self) {
        self.owned.doomed.store(true, Relaxed);
    }

    /// Pretends a kexec: what is in the cache is now what the previous kernel left. Not as long as
    /// somebody has an object, or a clone of the cache.
    #[cfg(CONFIG_KUNIT)]
    pub(super) fn cross(self) -> Result<Self> {
        let mut owned = Arc::into_unique_or_drop(self.owned).ok_or(EBUSY)?;
        let inner = owned.as_mut();
        *inner.untaken.lock() = Untaken::NONE;
        // INVARIANT: Each `Object` has a reference, so there is none.
        inner.listed.store(false, Release);
        Ok(Self {
            owned: owned.into(),
            _objects: PhantomData,
        })
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Clone for Slab<T> {
    fn clone(&self) -> Self {
        Self {
            owned: self.owned.clone(),
            _objects: PhantomData,
        }
    }
}

impl<T: Item + FromBytes + IntoBytes + Immutable> Ref<Cache<T>> {
    /// Takes over the cache it stands for, in the new kernel, as [`Slab::attach_at`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Slab::attach_at`].
    pub fn redeem(self) -> Result<Slab<T>> {
        match self.__into_parts() {
            (handle, 0) => Slab::attach_at(handle),
            _ => Err(EINVAL),
        }
    }
}

/// The objects of a cache that nobody has taken: see [`Slab::left`].
pub struct Left<'a, T: FromBytes + IntoBytes + Immutable> {
    slab: &'a Slab<T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Iterator for Left<'_, T> {
    type Item = Object<T>;

    fn next(&mut self) -> Option<Object<T>> {
        let mut untaken = self.slab.owned.untaken.lock();
        let place = untaken.first()?;
        let object = self.slab.object(*untaken.addresses.get(place)?)?;
        untaken.take(place);
        Some(object)
    }
}

/// An object in a [`Slab`], owned as by a `KBox`: dropped, it is free, and zero.
///
/// The kexec drops nothing: an object that somebody has when the machine jumps is there in the next
/// kernel.
///
/// # Invariants
///
/// `memory` is an object of the cache, which belongs to this one alone, and holds a valid `T`.
pub struct Object<T: FromBytes + IntoBytes + Immutable> {
    memory: NonNull<T>,
    owned: Arc<Owned>,
}

// SAFETY: The object is owned, as in a `KBox`, and can be freed by any task.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Send> Send for Object<T> {}
// SAFETY: Through a shared reference there is only shared access to the `T`.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Sync> Sync for Object<T> {}

impl<T: FromBytes + IntoBytes + Immutable> Object<T> {
    /// What [`Slab::take`] finds it by in the next kernel: for other objects, arrays and records.
    pub fn handle(&self) -> u64 {
        self.owned.address(self.memory)
    }

    /// A handle for a record.
    pub fn reference(&self) -> Ref<Slot<T>>
    where
        T: Item,
    {
        Ref::__new(self.handle(), 0)
    }

    /// Leaves it allocated, and returns its handle. Nobody in this kernel gets it again.
    pub fn keep(self) -> u64 {
        let handle = self.handle();
        let mut kept = ManuallyDrop::new(self);
        // SAFETY: It is not used any more, and dropped once. Nothing else in it needs it.
        unsafe { ptr::drop_in_place(&mut kept.owned) };
        handle
    }

    /// Changes the object in two steps, so that no kernel finds the second without the first.
    ///
    /// The machine may jump between any two stores, and the compiler may swap those to one object.
    /// Where one field says that others are good, as a state says that there is a result, these are
    /// written by `first`, and that one by `last`. It should be one number: then it is one store.
    pub fn in_order(&mut self, first: impl FnOnce(&mut T), last: impl FnOnce(&mut T)) {
        first(self);
        barrier::smp_mb(barrier::Write);
        last(self);
        // Nor is what comes later done before it.
        barrier::smp_mb(barrier::Write);
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the invariants it holds a valid `T`; it is owned, and borrowed as `self` is.
        unsafe { self.memory.as_ref() }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> DerefMut for Object<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As in `deref`, and `self` is borrowed exclusively.
        unsafe { self.memory.as_mut() }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Drop for Object<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants it is an object of the cache, and nobody else has it. If `T`
        // has drop glue, that is not run, no more than when the machine jumps. It fails only for
        // what is no object.
        unsafe { bindings::kho_slab_free(self.owned.raw(), self.memory.as_ptr().cast()) };
    }
}

impl<T: Item + FromBytes + IntoBytes + Immutable> Ref<Slot<T>> {
    /// Takes the object it stands for, in the new kernel, as [`Slab::take`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Slab::take`]; [`EINVAL`] if it cannot be such a handle.
    pub fn redeem(self, slab: &Slab<T>) -> Result<Object<T>> {
        match self.__into_parts() {
            (handle, 0) => slab.take(handle),
            _ => Err(EINVAL),
        }
    }
}
