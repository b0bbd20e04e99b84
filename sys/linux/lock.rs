// SPDX-License-Identifier: GPL-2.0

//! Mutexes, each made with a class of its own for lockdep.

use core::pin::Pin;

use kernel::prelude::KBox;
use kernel::sync::Mutex;

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
