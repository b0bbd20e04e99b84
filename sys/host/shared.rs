// SPDX-License-Identifier: GPL-2.0

//! Statics of a simulated kernel: one a thread, as the machine is.

use std::ops::Deref;

pub(crate) use super::lock::SetOnce;

/// What a static of a kernel is on this thread.
pub(crate) struct PerKernel<T: 'static> {
    pub(crate) value: fn() -> &'static T,
}

impl<T> Deref for PerKernel<T> {
    type Target = T;

    fn deref(&self) -> &T {
        (self.value)()
    }
}

/// A static, one a simulated kernel.
macro_rules! kernel_static {
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;) => {
        $(#[$attr])*
        $vis static $name: $crate::sys::shared::PerKernel<$type> = {
            std::thread_local! {
                static VALUE: &'static $type = Box::leak(Box::new($init));
            }
            $crate::sys::shared::PerKernel {
                value: || VALUE.with(|value| *value),
            }
        };
    };
}

pub(crate) use kernel_static;

/// Statics of a type that has a default, each with a mutex of the class that is named.
macro_rules! shared {
    (
        $(#[$about:meta])* $init:ident:
        $($(#[$attr:meta])* $vis:vis static $name:ident: Option<$type:ty> = $class:literal;)+
    ) => {
        $(
            $crate::sys::shared::kernel_static! {
                $(#[$attr])*
                $vis static $name: $crate::sys::lock::Locked<Option<$type>> =
                    $crate::sys::lock::Locked::fixed(None, $class);
            }
        )+
    };
}

pub(crate) use shared;
