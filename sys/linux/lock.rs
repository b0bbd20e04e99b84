// SPDX-License-Identifier: GPL-2.0

//! Locks, each made with a class of its own for lockdep.

use core::pin::Pin;

use kernel::bindings;
use kernel::ffi::{c_char, c_ulong};
use kernel::prelude::KBox;
use kernel::sync::lock::{Backend, Lock};
use kernel::sync::Mutex;
pub(crate) use kernel::sync::SetOnce;

use super::glue;

/// Data that is reached through its mutex only.
pub(crate) type Locked<T> = Pin<KBox<Mutex<T>>>;

/// `locked!(value, "name")`: a [`Locked`], or `ENOMEM`. Locks made in one place are of one class.
macro_rules! locked {
    ($value:expr, $name:literal) => {
        <kernel::prelude::KBox<_> as kernel::prelude::InPlaceInit<_>>::pin_init(
            kernel::new_mutex!($value, $name),
            kernel::prelude::GFP_KERNEL,
        )
    };
}

pub(crate) use locked;

/// Data that is reached through its spin lock only, with interrupts off: never sleep with it.
pub(crate) type Spun<T> = Pin<KBox<Lock<T, IrqSave>>>;

/// A raw spin lock that keeps what interrupts were before in its guard. The kernel crate's is none
/// for all contexts of a kernel with PREEMPT_RT, and counts how often they were disabled instead,
/// which costs a slab object 14 instructions to allocate, and as many to free.
pub(crate) struct IrqSave;

// SAFETY: A `raw_spinlock_t` ensures mutual exclusion; what `lock` returns is what `unlock`
// restores.
unsafe impl Backend for IrqSave {
    type State = bindings::raw_spinlock_t;
    type GuardState = c_ulong;

    #[inline]
    unsafe fn init(
        state: *mut Self::State,
        name: *const c_char,
        key: *mut bindings::lock_class_key,
    ) {
        // SAFETY: By the caller's promise.
        unsafe { glue::lu_spin_init(state.cast(), name, key.cast()) }
    }

    #[inline]
    unsafe fn lock(state: *mut Self::State) -> c_ulong {
        // SAFETY: By the caller's promise.
        unsafe { glue::lu_spin_lock(state.cast()) }
    }

    #[inline]
    unsafe fn unlock(state: *mut Self::State, flags: &c_ulong) {
        // SAFETY: By the caller's promise; the flags are those of this lock's guard.
        unsafe { glue::lu_spin_unlock(state.cast(), *flags) }
    }

    #[inline]
    unsafe fn try_lock(state: *mut Self::State) -> Option<c_ulong> {
        let mut flags = 0;
        // SAFETY: By the caller's promise.
        unsafe { glue::lu_spin_trylock(state.cast(), &mut flags) }.then_some(flags)
    }

    #[inline]
    unsafe fn assert_is_held(state: *mut Self::State) {
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: By the caller's promise.
            unsafe { glue::lu_spin_assert_held(state.cast()) }
        }
    }
}

/// `spun!(value, "name")`: a [`Spun`], or `ENOMEM`.
macro_rules! spun {
    ($value:expr, $name:literal) => {
        <kernel::prelude::KBox<_> as kernel::prelude::InPlaceInit<_>>::pin_init(
            kernel::sync::lock::Lock::<_, $crate::sys::lock::IrqSave>::new(
                $value,
                kernel::c_str!($name),
                kernel::static_lock_class!(),
            ),
            kernel::prelude::GFP_KERNEL,
        )
    };
}

pub(crate) use spun;
