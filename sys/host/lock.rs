// SPDX-License-Identifier: GPL-2.0

//! Mutexes that watch how they are used, as lockdep does: a lock that is taken twice, or two that
//! are taken in both orders, end the test with the locks that are held.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::alloc::{ask, AllocError};

/// Data that is reached through its mutex only.
pub(crate) struct Locked<T> {
    class: &'static str,
    data: Mutex<T>,
}

/// `locked!(value, "name")`: a [`Locked`], or no memory. Locks of one name are of one class.
macro_rules! locked {
    ($value:expr, $name:literal) => {
        $crate::sys::lock::Locked::new($value, $name)
    };
}

pub(crate) use locked;

/// As a [`Locked`]; nothing is allocated while one is held.
pub(crate) type Spun<T> = Locked<T>;

pub(crate) use locked as spun;

/// A value that is set once, and found without a lock from then on.
pub(crate) struct SetOnce<T>(OnceLock<T>);

impl<T> SetOnce<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn as_ref(&self) -> Option<&T> {
        self.0.get()
    }

    pub(crate) fn populate(&self, value: T) -> bool {
        self.0.set(value).is_ok()
    }
}

thread_local! {
    /// Classes held by this thread, in the order they were taken.
    static HELD: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Pairs of classes of which the second was taken with the first held, by any test.
static ORDER: Mutex<BTreeSet<(&'static str, &'static str)>> = Mutex::new(BTreeSet::new());

/// A class that is held.
pub(crate) struct Held(&'static str);

/// Notes that a lock of this class is taken.
pub(crate) fn take(class: &'static str) -> Held {
    let wrong = HELD.with_borrow(|held| {
        let mut order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = held.iter().find_map(|&before| {
            order.insert((before, class));
            let twice = before == class;
            (twice || order.contains(&(class, before))).then_some(before)
        });
        wrong.map(|before| {
            order.remove(&(before, class));
            format!("lock {class} is taken with {before} held, after all of {held:?}")
        })
    });
    if let Some(wrong) = wrong {
        panic!("{wrong}: twice, or in the wrong order");
    }
    HELD.with_borrow_mut(|held| held.push(class));
    Held(class)
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| {
            if let Some(at) = held.iter().rposition(|class| *class == self.0) {
                held.remove(at);
            }
        });
    }
}

impl<T> Locked<T> {
    /// One that takes no memory.
    pub(crate) const fn fixed(value: T, class: &'static str) -> Self {
        Self {
            class,
            data: Mutex::new(value),
        }
    }

    pub(crate) fn new(value: T, class: &'static str) -> Result<Self, AllocError> {
        ask()?;
        Ok(Self {
            class,
            data: Mutex::new(value),
        })
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let held = take(self.class);
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { data, _held: held }
    }
}

/// The right to the data of a [`Locked`].
pub(crate) struct Guard<'a, T> {
    data: MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "twice")]
    fn a_lock_taken_twice_is_noticed() {
        let lock = Locked::new(0, "test_twice").expect("memory");
        let _held = lock.lock();
        lock.lock();
    }

    #[test]
    #[should_panic(expected = "wrong order")]
    fn two_locks_in_both_orders_are_noticed() {
        let a = Locked::new(0, "test_a").expect("memory");
        let b = Locked::new(0, "test_b").expect("memory");
        {
            let _a = a.lock();
            let _b = b.lock();
        }
        let _b = b.lock();
        a.lock();
    }
}
