// SPDX-License-Identifier: GPL-2.0

//! The C API of preserved sparse arrays: include/linux/kho_array.h. What an array is is
//! `kho/array/`; here is its lock.

use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

use super::slab::{name_of, named};
use crate::kho::addr::PhysAddr;
use crate::kho::array::shape::KIND;
use crate::kho::array::Array;
use crate::sys::glue::{self, kho_array};

/// What a `struct kho_array` is. Its lock is taken before any of KHO's.
#[pin_data]
struct Held {
    #[pin]
    array: Mutex<Array>,
}

/// Makes an array, and the structure that C gets of it.
fn wrap(make: impl FnOnce() -> Result<Array>) -> *mut kho_array {
    let wrapped = || -> Result<_> {
        // Before there is an array: one that was taken over and then dropped would lose all it has.
        let room = KBox::<Held>::new_uninit(GFP_KERNEL)?;
        let array = make()?;
        let Ok(made) = room.write_pin_init(pin_init!(Held {
            array <- new_mutex!(array, "kho_array"),
        }));
        Ok(made)
    };
    match wrapped() {
        // SAFETY: It stays where it is until it is dropped.
        Ok(held) => KBox::into_raw(unsafe { Pin::into_inner_unchecked(held) }).cast(),
        Err(err) => err.to_ptr(),
    }
}

/// The array that C means.
///
/// # Safety
///
/// `array` came from [`wrap`] and is not destroyed meanwhile.
unsafe fn of<'a>(array: *mut kho_array) -> &'a Mutex<Array> {
    // SAFETY: By the caller's promise.
    unsafe { &(*array.cast::<Held>()).array }
}

/// # Safety
///
/// `name` is null or a C string.
#[no_mangle]
unsafe extern "C" fn kho_array_create(name: *const c_char) -> *mut kho_array {
    // SAFETY: By the caller's promise.
    let name = unsafe { name_of(name) };
    wrap(|| Array::create(name))
}

/// # Safety
///
/// As for [`kho_array_create`].
#[no_mangle]
unsafe extern "C" fn kho_array_attach(name: *const c_char) -> *mut kho_array {
    // SAFETY: By the caller's promise.
    let name = unsafe { name_of(name) };
    wrap(|| Array::attach(named(&KIND, name)?, name))
}

#[no_mangle]
extern "C" fn kho_array_attach_at(handle: u64) -> *mut kho_array {
    wrap(|| Array::attach(PhysAddr::new(handle), &[]))
}

/// # Safety
///
/// `array` is null, an error, or an array that nobody uses any more.
#[no_mangle]
unsafe extern "C" fn kho_array_destroy(array: *mut kho_array) {
    if array.is_null() || kernel::error::from_err_ptr(array).is_err() {
        return;
    }
    // SAFETY: By the caller's promise; it was made by `wrap`.
    drop(unsafe { KBox::from_raw(array.cast::<Held>()) });
}

/// # Safety
///
/// `array` is an array.
#[no_mangle]
unsafe extern "C" fn kho_array_set(array: *mut kho_array, index: u64, value: u64) -> c_int {
    // SAFETY: By the caller's promise.
    match unsafe { of(array) }.lock().set(index, value) {
        Ok(old) => old.is_some().into(),
        Err(err) => err.to_errno(),
    }
}

/// # Safety
///
/// `array` is an array, and `value` may be written.
#[no_mangle]
unsafe extern "C" fn kho_array_get(array: *mut kho_array, index: u64, value: *mut u64) -> bool {
    // SAFETY: By the caller's promise.
    let found = unsafe { of(array) }.lock().get(index);
    if let Some(found) = found {
        // SAFETY: As above.
        unsafe { value.write(found) };
    }
    found.is_some()
}

/// # Safety
///
/// `array` is an array.
#[no_mangle]
unsafe extern "C" fn kho_array_clear(array: *mut kho_array, index: u64) -> bool {
    // SAFETY: By the caller's promise.
    unsafe { of(array) }.lock().clear(index).is_some()
}

/// # Safety
///
/// `array` is an array.
#[no_mangle]
unsafe extern "C" fn kho_array_clear_range(array: *mut kho_array, first: u64, last: u64) {
    // SAFETY: By the caller's promise.
    unsafe { of(array) }.lock().clear_range(first..=last);
}

/// # Safety
///
/// `array` is an array; `index` and `value` may be written.
#[no_mangle]
unsafe extern "C" fn kho_array_next(
    array: *mut kho_array,
    index: *mut u64,
    last: u64,
    value: *mut u64,
) -> bool {
    // SAFETY: By the caller's promise.
    let found = unsafe { of(array).lock().next(*index) };
    match found {
        Some((at, found)) if at <= last => {
            // SAFETY: By the caller's promise.
            unsafe {
                index.write(at);
                value.write(found);
            }
            true
        }
        _ => false,
    }
}

/// # Safety
///
/// `array` is an array.
#[no_mangle]
unsafe extern "C" fn kho_array_handle(array: *mut kho_array) -> u64 {
    // SAFETY: By the caller's promise.
    unsafe { of(array) }.lock().handle().raw()
}

/// # Safety
///
/// `array` is an array.
#[no_mangle]
unsafe extern "C" fn kho_array_count(array: *mut kho_array) -> u64 {
    // SAFETY: By the caller's promise.
    unsafe { of(array) }.lock().len()
}

// What the header says is what is here.
const _: () = {
    type Create = unsafe extern "C" fn(*const c_char) -> *mut kho_array;
    type AttachAt = unsafe extern "C" fn(u64) -> *mut kho_array;
    type Destroy = unsafe extern "C" fn(*mut kho_array);
    type Set = unsafe extern "C" fn(*mut kho_array, u64, u64) -> c_int;
    type Get = unsafe extern "C" fn(*mut kho_array, u64, *mut u64) -> bool;
    type Clear = unsafe extern "C" fn(*mut kho_array, u64) -> bool;
    type ClearRange = unsafe extern "C" fn(*mut kho_array, u64, u64);
    type Next = unsafe extern "C" fn(*mut kho_array, *mut u64, u64, *mut u64) -> bool;
    type Number = unsafe extern "C" fn(*mut kho_array) -> u64;
    let _: [Create; 4] = [
        kho_array_create,
        glue::kho_array_create,
        kho_array_attach,
        glue::kho_array_attach,
    ];
    let _: [AttachAt; 2] = [kho_array_attach_at, glue::kho_array_attach_at];
    let _: [Destroy; 2] = [kho_array_destroy, glue::kho_array_destroy];
    let _: [Set; 2] = [kho_array_set, glue::kho_array_set];
    let _: [Get; 2] = [kho_array_get, glue::kho_array_get];
    let _: [Clear; 2] = [kho_array_clear, glue::kho_array_clear];
    let _: [ClearRange; 2] = [kho_array_clear_range, glue::kho_array_clear_range];
    let _: [Next; 2] = [kho_array_next, glue::kho_array_next];
    let _: [Number; 4] = [
        kho_array_handle,
        glue::kho_array_handle,
        kho_array_count,
        glue::kho_array_count,
    ];
};

#[kernel::prelude::kunit_tests(kho_array_api)]
mod tests {
    use super::*;

    #[test]
    fn values_come_and_go() {
        // SAFETY: The array is destroyed at the end and not used then.
        unsafe {
            let array = kho_array_create(c"kunit".as_char_ptr());
            assert!(kernel::error::from_err_ptr(array).is_ok());
            for at in 0..1000 {
                assert!(kho_array_set(array, at * at, at) == 0);
            }
            assert!(kho_array_set(array, u64::MAX, 5) == 0);
            assert!(kho_array_set(array, u64::MAX, 6) == 1);
            let mut value = 0;
            assert!(kho_array_get(array, u64::MAX, &mut value) && value == 6);
            assert!(!kho_array_get(array, 2, &mut value));
            assert!(kho_array_count(array) == 1001);
            let (mut index, mut met) = (0, 0);
            while kho_array_next(array, &mut index, 999 * 999, &mut value) {
                assert!(index == met * met && value == met);
                met += 1;
                index += 1;
            }
            assert!(met == 1000);
            assert!(kho_array_clear(array, 4) && !kho_array_clear(array, 4));
            kho_array_clear_range(array, 5, u64::MAX);
            assert!(kho_array_count(array) == 2);
            assert!(kho_array_handle(array) != 0);
            kho_array_destroy(array);
        }
    }

    #[test]
    fn what_is_not_there_is_not_attached() {
        // SAFETY: No array is made.
        unsafe {
            let none = kho_array_attach(c"kunit-none".as_char_ptr());
            assert!(kernel::error::from_err_ptr(none) == Err(ENOENT));
            for handle in [0, 4096, 1 << 51, u64::MAX] {
                let none = kho_array_attach_at(handle);
                assert!(kernel::error::from_err_ptr(none) == Err(EINVAL));
            }
            kho_array_destroy(core::ptr::null_mut());
        }
    }
}
