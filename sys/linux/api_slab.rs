// SPDX-License-Identifier: GPL-2.0

//! The C API of preserved slab caches: include/linux/kho_slab.h. What a cache is is `kho/slab/`; here
//! are its lock, its constructor, and addresses that C can use.

use core::ffi::c_void;
use core::ptr::null_mut;

use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

use super::glue::{self, kho_slab};
use super::state;
use crate::kho::addr::PhysAddr;
use crate::kho::root::{self, Kind};
use crate::kho::slab::cache::Cache;
use crate::kho::slab::shape::KIND;

/// What C calls for a new object.
type Ctor = Option<unsafe extern "C" fn(object: *mut c_void)>;

/// What a `struct kho_slab` is.
#[pin_data]
struct Slab {
    /// Taken before any lock of KHO's.
    #[pin]
    cache: Mutex<Cache>,
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
/// [`ENOENT`] if there is none, [`EINVAL`] for a name that cannot be, or if it was not preserved.
pub(super) fn named(kind: &Kind, name: &[u8]) -> Result<PhysAddr> {
    if name.is_empty() {
        return Err(EINVAL);
    }
    let mut buffer = root::buffer();
    Ok(state::find_subtree(root::subtree(kind, name, &mut buffer)?)?.data)
}

/// Makes a cache, and the structure that C gets of it.
fn wrap(make: impl FnOnce() -> Result<Cache>, ctor: Ctor) -> *mut kho_slab {
    let wrapped = || -> Result<_> {
        // Before there is a cache: one that was taken over and then dropped would lose all it has.
        let room = KBox::<Slab>::new_uninit(GFP_KERNEL)?;
        let cache = make()?;
        let Ok(made) = room.write_pin_init(pin_init!(Slab {
            cache <- new_mutex!(cache, "kho_slab"),
            ctor,
        }));
        Ok(made)
    };
    match wrapped() {
        // SAFETY: It stays where it is until it is dropped.
        Ok(slab) => KBox::into_raw(unsafe { Pin::into_inner_unchecked(slab) }).cast(),
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

fn virt(object: PhysAddr) -> *mut c_void {
    // SAFETY: This only computes an address.
    unsafe { glue::lu_phys_to_virt(object.raw()) }
}

fn phys(object: *const c_void) -> PhysAddr {
    // SAFETY: As above.
    PhysAddr::new(unsafe { glue::lu_virt_to_phys(object) })
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

/// Allocates an object, zeroed if it is said to be made sure of.
fn alloc(slab: &Slab, zero: bool) -> *mut c_void {
    let allocated = {
        let mut cache = slab.cache.lock();
        cache.alloc().and_then(|object| {
            if zero {
                cache.clear(object)?;
            }
            Ok(object)
        })
    };
    let Ok(object) = allocated else {
        return null_mut();
    };
    let object = virt(object);
    if let Some(ctor) = slab.ctor {
        // SAFETY: Whoever made the cache promised so; the object is allocated, and nobody else knows
        // of it.
        unsafe { ctor(object) };
    }
    object
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_alloc(slab: *mut kho_slab) -> *mut c_void {
    // SAFETY: By the caller's promise.
    alloc(unsafe { of(slab) }, false)
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_zalloc(slab: *mut kho_slab) -> *mut c_void {
    // SAFETY: By the caller's promise.
    alloc(unsafe { of(slab) }, true)
}

/// # Safety
///
/// `slab` is a cache; nobody uses the object any more.
#[no_mangle]
unsafe extern "C" fn kho_slab_free(slab: *mut kho_slab, object: *mut c_void) -> c_int {
    if object.is_null() {
        return 0;
    }
    // SAFETY: By the caller's promise.
    let freed = unsafe { of(slab) }.cache.lock().free(phys(object));
    match freed {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// # Safety
///
/// `slab` is a cache, and `position` may be written.
#[no_mangle]
unsafe extern "C" fn kho_slab_next(slab: *mut kho_slab, position: *mut u64) -> *mut c_void {
    // SAFETY: By the caller's promise.
    let found = unsafe { of(slab).cache.lock().next(*position) };
    let Some((object, behind)) = found else {
        return null_mut();
    };
    // SAFETY: By the caller's promise.
    unsafe { position.write(behind) };
    virt(object)
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_object(slab: *mut kho_slab, at: u64) -> *mut c_void {
    let at = PhysAddr::new(at);
    // SAFETY: By the caller's promise.
    match unsafe { of(slab) }.cache.lock().contains(at) {
        true => virt(at),
        false => null_mut(),
    }
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_phys(slab: *mut kho_slab, object: *const c_void) -> u64 {
    let at = phys(object);
    // SAFETY: By the caller's promise.
    match unsafe { of(slab) }.cache.lock().contains(at) {
        true => at.raw(),
        false => 0,
    }
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_handle(slab: *mut kho_slab) -> u64 {
    // SAFETY: By the caller's promise.
    unsafe { of(slab) }.cache.lock().handle().raw()
}

/// # Safety
///
/// `slab` is a cache.
#[no_mangle]
unsafe extern "C" fn kho_slab_count(slab: *mut kho_slab) -> u64 {
    // SAFETY: By the caller's promise.
    unsafe { of(slab) }.cache.lock().used()
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
    let _: [Destroy; 2] = [kho_slab_destroy, glue::kho_slab_destroy];
    let _: [Alloc; 4] = [
        kho_slab_alloc,
        glue::kho_slab_alloc,
        kho_slab_zalloc,
        glue::kho_slab_zalloc,
    ];
    let _: [Free; 2] = [kho_slab_free, glue::kho_slab_free];
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
        // SAFETY: The cache is destroyed at the end; each object is freed once, and none is used then.
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
