// SPDX-License-Identifier: GPL-2.0

//! Arrays that can be allocated before the page allocator runs: they take frames of the machine, so
//! that running out of scratch is seen, though their contents live in the test's own memory.

use core::ops::{Deref, DerefMut};

use super::machine::{with, Owner};
use crate::sys::addr::{PageRange, Pfn};
use zerocopy::FromZeros;

pub(crate) struct BootSlice<T> {
    items: Vec<T>,
    frames: PageRange,
    early: bool,
}

impl<T: FromZeros> BootSlice<T> {
    pub(crate) fn new(len: usize) -> Option<Self> {
        Self::filled(len, T::new_zeroed)
    }
}

impl<T> BootSlice<T> {
    pub(crate) fn filled(len: usize, make: impl Fn() -> T) -> Option<Self> {
        let pages = (len * size_of::<T>()).div_ceil(4096) as u64;
        if pages == 0 {
            return None;
        }
        let early = !with(|m| m.slab);
        let start = if early {
            with(|m| m.boot_alloc(pages, 1, PageRange::new(Pfn::new(0), m.frames())))?
        } else {
            with(|m| m.alloc(pages.next_power_of_two().ilog2(), false))?
        };
        let pages = if early {
            pages
        } else {
            pages.next_power_of_two()
        };
        Some(Self {
            items: (0..len).map(|_| make()).collect(),
            frames: PageRange::new(Pfn::new(start), pages),
            early,
        })
    }
}

impl<T> Deref for BootSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for BootSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T> Drop for BootSlice<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let from = if self.early {
            Owner::Boot
        } else {
            Owner::Kernel
        };
        with(|m| m.change(self.frames, &[from], Owner::Nobody, "free array"));
    }
}
