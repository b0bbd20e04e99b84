// SPDX-License-Identifier: GPL-2.0

//! The C API of preserved slab caches: include/linux/kho_slab.h. What a cache is is `kho/slab/`;
//! here are its constructor, copies of what kmalloc has, and addresses that C can use.

use core::ffi::c_void;
use core::ptr::{copy_nonoverlapping, null_mut};

use kernel::prelude::*;

use crate::kho::addr::PhysAddr;
use crate::kho::root::{self, Kind};
use crate::kho::slab::cache::{Cache, Sleep};
use crate::kho::slab::shape::KIND;
use crate::kho::slab::Object;
use crate::kho::state as handover;
use crate::kho::state;
use crate::sys::glue::{self, kho_slab};
use crate::sys::pages::Somewhere;

/// What C calls for a new object.
type Ctor = Option<unsafe extern "C" fn(object: *mut c_void)>;

/// What a `struct kho_slab` is.
struct Slab {
    cache: Cache,
    ctor: Ctor,
}

/// The bytes of a name; NULL has none.
///
/// # Safety
///
/// `name` is null or a C string that outlives the result.
pub(super) unsafe fn name_of<'a>(name: *const c_char) -> &'a [u8] {
    match name.is_null() {
        true => &[],
        // SAFETY: By the caller's promise.
        false => unsafe { CStr::from_char_ptr(name) }.to_bytes(),
    }
}

/// Where the root is that was handed over under a name.
///
/// # Errors
///
/// [`ENOENT`] if there is none, or it was taken over; [`EINVAL`] for a name that cannot be, or if
/// it was not preserved.
pub(super) fn named(kind: &Kind, name: &[u8]) -> Result<PhysAddr> {
    if name.is_empty() {
        return Err(EINVAL);
    }
    let mut buffer = root::buffer();
    let root = state::find_subtree(root::subtree(kind, name, &mut buffer)?)?.data;
    // What was taken over is this kernel's, and whatever became of it, nobody else's to take.
    match handover::incoming(|incoming| incoming.block_at(root.pfn())) {
        Some(_) => Ok(root),
        None => Err(ENOENT),
    }
}

/// Makes a cache, and the structure that C gets of it.
fn wrap(make: impl FnOnce() -> Result<Cache>, ctor: Ctor) -> *mut kho_slab {
    let wrapped = || -> Result<_> {
        // Before there is a cache: one that was taken over and then dropped would lose all it has.
        let room = KBox::<Slab>::new_uninit(GFP_KERNEL)?;
        let cache = make()?;
        Ok(KBox::write(room, Slab { cache, ctor }))
    };
    match wrapped() {
        Ok(slab) => KBox::into_raw(slab).cast(),
        Err(err) => err.to_ptr(),
    }
}

/// The cache that C means.
///
/// # Safety
///
/// `slab` came from [`wrap`] and is not destroyed meanwhile.
unsafe fn of<'a>(slab: *mut kho_slab) -> &'a Slab {
    // SAFETY: By the caller's promise.
    unsafe { &*slab.cast::<Slab>() }
}

/// # Safety
///
/// `name` is null or a C string; `ctor` is null or may be called for any object of that size.
#[no_mangle]
unsafe extern "C" fn kho_slab_create(
    name: *const c_char,
    size: usize,
    align: usize,
    ctor: Ctor,
) -> *mut kho_slab {
    // SAFETY: By the caller's promise.
    let name = unsafe { name_of(name) };
    wrap(|| Cache::create(name, size, align), ctor)
}

/// # Safety
///
/// As for [`kho_slab_create`].
#[no_mangle]
unsafe extern "C" fn kho_slab_attach(
    name: *const c_char,
    size: usize,
    align: usize,
    ctor: Ctor,
) -> *mut kho_slab {
    // SAFETY: By the caller's promise.
    let name = unsafe { name_of(name) };
    wrap(
        || Cache::attach(named(&KIND, name)?, name, size, align),
        ctor,
    )
}

/// # Safety
///
/// As for [`kho_slab_create`].
#[no_mangle]
unsafe extern "C" fn kho_slab_attach_at(
    handle: u64,
    size: usize,
    align: usize,
    ctor: Ctor,
) -> *mut kho_slab {
    wrap(
        || Cache::attach(PhysAddr::new(handle), &[], size, align),
        ctor,
    )
}

/// # Safety
///
/// `slab` is null, an error, or a cache that nobody uses any more.
#[no_mangle]
unsafe extern "C" fn kho_slab_destroy(slab: *mut kho_slab) {
    if slab.is_null() || kernel::error::from_err_ptr(slab).is_err() {
        return;
    }
    // SAFETY: By the caller's promise; it was made by `wrap`.
    drop(unsafe { KBox::from_raw(slab.cast::<Slab>()) });
}

/// Where C finds an object.
fn pointer(object: Object) -> *mut c_void {
    object.page.as_ptr().wrapping_byte_add(object.offset)
}

/// Allocates an object.
#[inline]
fn alloc(slab: &Slab, sleep: Sleep) -> *mut c_void {
    let Ok(object) = slab.cache.alloc(sleep) else {
        return null_mut();
    };
    let object = pointer(object);
    if let Some(ctor) = slab.ctor {
        // SAFETY: Whoever made the cache promised so; the object is allocated, and nobody else
        // knows of it.
        unsafe { ctor(object) };
    }
    object
}

/// Frees an object.
#[inline]
fn free(slab: &Slab, object: *mut c_void, sleep: Sleep) -> c_int {
    if object.is_null() {
        return 0;
    }
    match slab.cache.free(Somewhere::of(object), sleep) {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_alloc(slab: *mut kho_slab) -> *mut c_void {
    // SAFETY: By the caller's promise.
    alloc(unsafe { of(slab) }, Sleep::May)
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_alloc_atomic(slab: *mut kho_slab) -> *mut c_void {
    // SAFETY: By the caller's promise.
    alloc(unsafe { of(slab) }, Sleep::MustNot)
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_zalloc(slab: *mut kho_slab) -> *mut c_void {
    // SAFETY: By the caller's promise.
    let slab = unsafe { of(slab) };
    let zeroed = slab.cache.alloc(Sleep::May).and_then(|object| {
        slab.cache.clear(Somewhere::of(pointer(object)))?;
        Ok(object)
    });
    let Ok(object) = zeroed.map(pointer) else {
        return null_mut();
    };
    if let Some(ctor) = slab.ctor {
        // SAFETY: As in `alloc`.
        unsafe { ctor(object) };
    }
    object
}

/// # Safety
///
/// `slab` is a cache; nobody uses the object any more.
#[no_mangle]
unsafe extern "C" fn kho_slab_free(slab: *mut kho_slab, object: *mut c_void) -> c_int {
    // SAFETY: By the caller's promise.
    free(unsafe { of(slab) }, object, Sleep::May)
}

/// # Safety
///
/// `slab` is a cache; nobody uses the object any more.
#[no_mangle]
unsafe extern "C" fn kho_slab_free_atomic(slab: *mut kho_slab, object: *mut c_void) -> c_int {
    // SAFETY: By the caller's promise.
    free(unsafe { of(slab) }, object, Sleep::MustNot)
}

/// # Safety
///
/// `slab` is a cache; `from` has `size` bytes, which nobody changes meanwhile.
#[no_mangle]
unsafe extern "C" fn kho_slab_save(slab: *mut kho_slab, from: *const c_void, size: usize) -> u64 {
    // SAFETY: By the caller's promise.
    let slab = unsafe { of(slab) };
    if from.is_null() || size > slab.cache.size() {
        return 0;
    }
    let Ok(object) = slab.cache.alloc(Sleep::May) else {
        return 0;
    };
    // SAFETY: There are as many bytes by the caller's promise; an object has no fewer, and is
    // nobody else's yet.
    unsafe { copy_nonoverlapping(from.cast::<u8>(), pointer(object).cast(), size) };
    object.phys().raw()
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_load(
    slab: *mut kho_slab,
    at: u64,
    flags: glue::gfp_t,
) -> *mut c_void {
    // SAFETY: By the caller's promise.
    let slab = unsafe { of(slab) };
    let at = Somewhere::at(PhysAddr::new(at));
    if slab.cache.find(at).is_none() {
        return EINVAL.to_ptr();
    }
    let size = slab.cache.size();
    // SAFETY: Takes any size, and fails with null.
    let to = unsafe { glue::lu_kmalloc(size, flags) };
    if to.is_null() {
        return ENOMEM.to_ptr();
    }
    let taken = slab.cache.take(at, |object| {
        // SAFETY: Both have so many bytes, and the one was just allocated.
        unsafe { copy_nonoverlapping(pointer(object).cast::<u8>(), to.cast(), size) };
    });
    if let Err(err) = taken {
        // SAFETY: It was allocated right here, and nobody knows of it.
        unsafe { glue::lu_kfree(to) };
        return err.to_ptr();
    }
    // SAFETY: This only looks at the flags.
    if unsafe { glue::lu_may_sleep(flags) } {
        slab.cache.tidy(at);
    }
    to
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_shrink(slab: *mut kho_slab) {
    // SAFETY: By the caller's promise.
    unsafe { of(slab) }.cache.shrink();
}

/// # Safety
///
/// `slab` is a cache, and `position` may be written.
#[no_mangle]
unsafe extern "C" fn kho_slab_next(slab: *mut kho_slab, position: *mut u64) -> *mut c_void {
    // SAFETY: By the caller's promise.
    let found = unsafe { of(slab).cache.next(*position) };
    let Some((object, behind)) = found else {
        return null_mut();
    };
    // SAFETY: By the caller's promise.
    unsafe { position.write(behind) };
    pointer(object)
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_object(slab: *mut kho_slab, at: u64) -> *mut c_void {
    // SAFETY: By the caller's promise.
    let found = unsafe { of(slab) }
        .cache
        .find(Somewhere::at(PhysAddr::new(at)));
    found.map_or(null_mut(), pointer)
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_phys(slab: *mut kho_slab, object: *const c_void) -> u64 {
    // SAFETY: By the caller's promise.
    let found = unsafe { of(slab) }.cache.find(Somewhere::of(object));
    found.map_or(0, |object| object.phys().raw())
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_handle(slab: *mut kho_slab) -> u64 {
    // SAFETY: By the caller's promise.
    unsafe { of(slab) }.cache.handle().raw()
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_count(slab: *mut kho_slab) -> u64 {
    // SAFETY: By the caller's promise.
    unsafe { of(slab) }.cache.used()
}

// What the header says is what is here.
const _: () = {
    type Attach = unsafe extern "C" fn(*const c_char, usize, usize, Ctor) -> *mut kho_slab;
    type AttachAt = unsafe extern "C" fn(u64, usize, usize, Ctor) -> *mut kho_slab;
    type Number = unsafe extern "C" fn(*mut kho_slab) -> u64;
    type Alloc = unsafe extern "C" fn(*mut kho_slab) -> *mut c_void;
    type Free = unsafe extern "C" fn(*mut kho_slab, *mut c_void) -> c_int;
    type Next = unsafe extern "C" fn(*mut kho_slab, *mut u64) -> *mut c_void;
    type Object = unsafe extern "C" fn(*mut kho_slab, u64) -> *mut c_void;
    type Phys = unsafe extern "C" fn(*mut kho_slab, *const c_void) -> u64;
    type Destroy = unsafe extern "C" fn(*mut kho_slab);
    let _: [Attach; 4] = [
        kho_slab_create,
        glue::kho_slab_create,
        kho_slab_attach,
        glue::kho_slab_attach,
    ];
    let _: [AttachAt; 2] = [kho_slab_attach_at, glue::kho_slab_attach_at];
    let _: [Destroy; 4] = [
        kho_slab_destroy,
        glue::kho_slab_destroy,
        kho_slab_shrink,
        glue::kho_slab_shrink,
    ];
    type Save = unsafe extern "C" fn(*mut kho_slab, *const c_void, usize) -> u64;
    type Load = unsafe extern "C" fn(*mut kho_slab, u64, glue::gfp_t) -> *mut c_void;
    let _: [Save; 2] = [kho_slab_save, glue::kho_slab_save];
    let _: [Load; 2] = [kho_slab_load, glue::kho_slab_load];
    let _: [Alloc; 6] = [
        kho_slab_alloc,
        glue::kho_slab_alloc,
        kho_slab_alloc_atomic,
        glue::kho_slab_alloc_atomic,
        kho_slab_zalloc,
        glue::kho_slab_zalloc,
    ];
    let _: [Free; 4] = [
        kho_slab_free,
        glue::kho_slab_free,
        kho_slab_free_atomic,
        glue::kho_slab_free_atomic,
    ];
    let _: [Next; 2] = [kho_slab_next, glue::kho_slab_next];
    let _: [Object; 2] = [kho_slab_object, glue::kho_slab_object];
    let _: [Phys; 2] = [kho_slab_phys, glue::kho_slab_phys];
    let _: [Number; 4] = [
        kho_slab_handle,
        glue::kho_slab_handle,
        kho_slab_count,
        glue::kho_slab_count,
    ];
};

#[kernel::prelude::kunit_tests(kho_slab_api)]
mod tests {
    use super::*;

    /// # Safety
    ///
    /// `object` is an object of a word or more, aligned to one.
    unsafe extern "C" fn seven(object: *mut c_void) {
        // SAFETY: By the caller's promise.
        unsafe { object.cast::<u64>().write(7) };
    }

    #[test]
    fn objects_come_and_go() {
        // SAFETY: The cache is destroyed at the end; each object is freed once, and none is used
        // then.
        unsafe {
            let slab = kho_slab_create(c"kunit".as_char_ptr(), 100, 32, Some(seven));
            assert!(kernel::error::from_err_ptr(slab).is_ok());
            let twice = kho_slab_create(c"kunit".as_char_ptr(), 100, 32, None);
            assert!(kernel::error::from_err_ptr(twice) == Err(EEXIST));
            let mut last = null_mut();
            for _ in 0..100 {
                let object = kho_slab_alloc(slab);
                assert!(!object.is_null() && object.addr() % 32 == 0);
                let words = object.cast::<u64>();
                assert!(words.read() == 7 && words.add(1).read() == 0);
                words.add(1).write(9);
                last = object;
            }
            assert!(kho_slab_count(slab) == 100);
            assert!(kho_slab_object(slab, kho_slab_phys(slab, last)) == last);
            assert!(kho_slab_phys(slab, last.cast::<u8>().add(8).cast()) == 0);
            assert!(kho_slab_object(slab, kho_slab_handle(slab)).is_null());
            assert!(kho_slab_object(slab, u64::MAX).is_null());
            assert!(kho_slab_free(slab, last.cast::<u8>().add(8).cast()) == EINVAL.to_errno());
            assert!(kho_slab_free(slab, last) == 0 && kho_slab_free(slab, null_mut()) == 0);
            assert!(kho_slab_free(slab, last) == EINVAL.to_errno());
            // The free object is the next one, and has nothing of what it was.
            let again = kho_slab_zalloc(slab);
            assert!(again == last && again.cast::<u64>().add(1).read() == 0);
            let (mut position, mut met) = (0, 0);
            loop {
                let object = kho_slab_next(slab, &mut position);
                if object.is_null() {
                    break;
                }
                met += 1;
                assert!(kho_slab_free(slab, object) == 0);
            }
            assert!(met == 100 && kho_slab_count(slab) == 0);
            kho_slab_destroy(slab);
        }
    }

    #[test]
    fn what_kmalloc_has_is_copied_there_and_back() {
        let record = [1u8, 2, 3, 4, 5];
        // SAFETY: The cache is destroyed at the end; `record` has as many bytes as is said, and
        // what is loaded is freed once, and has as many as an object.
        unsafe {
            let slab = kho_slab_create(core::ptr::null(), 24, 8, None);
            assert!(kernel::error::from_err_ptr(slab).is_ok());
            let at = kho_slab_save(slab, record.as_ptr().cast(), record.len());
            assert!(at != 0 && kho_slab_count(slab) == 1);
            assert!(kho_slab_save(slab, record.as_ptr().cast(), 25) == 0);
            assert!(kho_slab_save(slab, core::ptr::null(), 5) == 0);
            for wrong in [0, at + 8, at + 24, kho_slab_handle(slab), 1 << 51, u64::MAX] {
                let none = kho_slab_load(slab, wrong, kernel::bindings::GFP_KERNEL);
                assert!(kernel::error::from_err_ptr(none) == Err(EINVAL));
            }
            let back = kho_slab_load(slab, at, kernel::bindings::GFP_KERNEL);
            assert!(kernel::error::from_err_ptr(back).is_ok());
            let bytes = core::slice::from_raw_parts(back.cast::<u8>(), 24);
            assert!(bytes[..5] == record && bytes[5..].iter().all(|byte| *byte == 0));
            glue::lu_kfree(back);
            let twice = kho_slab_load(slab, at, kernel::bindings::GFP_KERNEL);
            assert!(kernel::error::from_err_ptr(twice) == Err(EINVAL));
            assert!(kho_slab_count(slab) == 0);
            kho_slab_destroy(slab);
        }
    }

    #[test]
    fn without_sleeping() {
        // SAFETY: The cache is destroyed at the end; each object is freed once.
        unsafe {
            let slab = kho_slab_create(core::ptr::null(), 1024, 0, None);
            assert!(kernel::error::from_err_ptr(slab).is_ok());
            // There is no page yet.
            assert!(kho_slab_alloc_atomic(slab).is_null());
            let first = kho_slab_alloc(slab);
            let rest = [0; 3].map(|_| kho_slab_alloc_atomic(slab));
            assert!(!first.is_null() && rest.iter().all(|object| !object.is_null()));
            // Then it is full.
            assert!(kho_slab_alloc_atomic(slab).is_null());
            assert!(kho_slab_free_atomic(slab, first) == 0);
            assert!(kho_slab_free_atomic(slab, first) == EINVAL.to_errno());
            assert!(kho_slab_alloc_atomic(slab) == first);
            for object in rest {
                assert!(kho_slab_free_atomic(slab, object) == 0);
            }
            assert!(kho_slab_free_atomic(slab, first) == 0 && kho_slab_count(slab) == 0);
            // The page is there until somebody has it given back.
            assert!(!kho_slab_alloc_atomic(slab).is_null());
            assert!(kho_slab_free_atomic(slab, first) == 0);
            kho_slab_shrink(slab);
            assert!(kho_slab_alloc_atomic(slab).is_null());
            kho_slab_destroy(slab);
        }
    }

    #[test]
    fn what_is_not_there_is_not_attached() {
        // SAFETY: No cache is made.
        unsafe {
            let none = kho_slab_attach(c"kunit-none".as_char_ptr(), 8, 8, None);
            assert!(kernel::error::from_err_ptr(none) == Err(ENOENT));
            let none = kho_slab_attach(c"".as_char_ptr(), 8, 8, None);
            assert!(kernel::error::from_err_ptr(none) == Err(EINVAL));
            for handle in [0, 4096, 1 << 51, u64::MAX] {
                let none = kho_slab_attach_at(handle, 8, 8, None);
                assert!(kernel::error::from_err_ptr(none) == Err(EINVAL));
            }
            let bad = kho_slab_create(core::ptr::null(), 5000, 8, None);
            assert!(kernel::error::from_err_ptr(bad) == Err(EINVAL));
            kho_slab_destroy(bad);
            kho_slab_destroy(null_mut());
        }
    }
}
