// SPDX-License-Identifier: GPL-2.0

//! Statics of a kernel: plain ones, and such that are reached through a mutex only.

pub(crate) use kernel::sync::SetOnce;

/// A static, one a kernel: on the host there are many.
macro_rules! kernel_static {
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;) => {
        $(#[$attr])*
        $vis static $name: $type = $init;
    };
}

pub(crate) use kernel_static;

/// Statics of a type that has a default, each with a mutex, and the function that makes these
/// usable. On the host each mutex is of the class that is named.
macro_rules! shared {
    (
        $(#[$about:meta])* $init:ident:
        $($(#[$attr:meta])* $vis:vis static $name:ident: Option<$type:ty> = $class:literal;)+
    ) => {
        // The kernel's macro takes it from where it is used.
        use core::pin::Pin;

        $(
            kernel::sync::global_lock! {
                $(#[$attr])*
                // SAFETY: The function below, which initialises it, is called once and before any
                // other code that takes it, as whoever calls that promises.
                $vis unsafe(uninit) static $name: Mutex<Option<$type>> = None;
            }
        )+

        $(#[$about])*
        ///
        /// # Safety
        ///
        /// Called once, before anything else takes one of them.
        pub(crate) unsafe fn $init() {
            $(
                // SAFETY: By the caller's promise.
                unsafe { $name.init() };
            )+
        }
    };
}

pub(crate) use shared;
