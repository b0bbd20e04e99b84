// SPDX-License-Identifier: GPL-2.0

//! One bit a page of the index, to find those that have something without looking at all.

use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::Result;

/// Bits of this kernel's own.
pub(crate) struct Bits(KVVec<u64>);

impl Bits {
    pub(crate) const fn new() -> Self {
        Self(KVVec::new())
    }

    /// Makes room for bit number `bit`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn grow(&mut self, bit: usize) -> Result {
        while self.0.len() <= bit / 64 {
            self.0.push(0, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Sets a bit there is room for.
    pub(crate) fn set(&mut self, bit: usize, on: bool) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            let mask = 1 << (bit % 64);
            *word = if on { *word | mask } else { *word & !mask };
        }
    }

    /// The lowest bit that is set.
    pub(crate) fn first(&self) -> Option<usize> {
        let at = self.0.iter().position(|word| *word != 0)?;
        let word = self.0.get(at)?;
        Some(at * 64 + word.trailing_zeros() as usize)
    }
}
