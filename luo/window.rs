// SPDX-License-Identifier: GPL-2.0

//! A text that is written whole, of which somebody asked for a part.

use core::fmt::Write;

/// The part of a text that somebody asked for.
pub(crate) struct Window<'a> {
    /// Bytes before it that are still to come.
    pub(super) skip: u64,
    pub(super) to: &'a mut [u8],
    pub(super) filled: usize,
    /// Bytes of the text so far.
    pub(super) length: u64,
}

impl<'a> Window<'a> {
    /// A text's beginning.
    pub(crate) fn new(to: &'a mut [u8]) -> Self {
        Self {
            skip: 0,
            to,
            filled: 0,
            length: 0,
        }
    }

    /// Bytes that were written.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }
}

impl Write for Window<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            self.length += 1;
            if self.skip > 0 {
                self.skip -= 1;
            } else if let Some(to) = self.to.get_mut(self.filled) {
                *to = byte;
                self.filled += 1;
            }
        }
        Ok(())
    }
}
