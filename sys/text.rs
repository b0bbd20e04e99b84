// SPDX-License-Identifier: GPL-2.0

//! Texts of a fixed size that end in NUL: session names and compatible strings.

use crate::sys::log;

/// A text of at least one byte and less than `N`, any bytes but NUL.
///
/// # Invariants
///
/// The first byte is not NUL, the last one is, and after a NUL there are only NULs, so that equal
/// texts are equal bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<const N: usize>([u8; N]);

/// Bytes of a compatible string's field, with the NUL: what include/linux/liveupdate.h has.
pub(crate) const COMPAT: usize = 48;

/// The format that a handler or an FLB reads and writes.
pub(crate) type Compatible = Text<COMPAT>;

impl core::fmt::Debug for Compatible {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        escape(self.text(), f)
    }
}

impl<const N: usize> Text<N> {
    /// The text in a field of N bytes; `None` if it is empty or not terminated. What follows the
    /// first NUL does not count.
    pub(crate) fn new(field: &[u8; N]) -> Option<Self> {
        let len = field.iter().position(|byte| *byte == 0)?;
        let mut text = [0; N];
        text.iter_mut()
            .zip(field.iter().take(len))
            .for_each(|(to, from)| *to = *from);
        (len > 0).then_some(Self(text))
    }

    /// A text of these bytes; `None` if there are none, too many, or a NUL among them.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let mut text = [0; N];
        let fits = !bytes.is_empty() && bytes.len() < N && !bytes.contains(&0);
        text.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        fits.then_some(Self(text))
    }

    /// All N bytes.
    pub(crate) fn bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// The text without NULs.
    pub(crate) fn text(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or(&[])
    }
}

/// Shows what is not printable as an escape: names are whatever a user or a previous kernel chose.
impl<const N: usize> log::Display for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        escape(self.text(), f)
    }
}

/// Writes bytes with what is not printable escaped.
pub(crate) fn escape(bytes: &[u8], to: &mut impl core::fmt::Write) -> core::fmt::Result {
    bytes
        .iter()
        .try_for_each(|byte| write!(to, "{}", byte.escape_ascii()))
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(liveupdate_text))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_terminated_and_not_empty_is_a_text() {
        assert!(Text::<4>::new(b"abc\0").is_some());
        assert!(Text::<4>::new(b"abcd").is_none());
        assert!(Text::<4>::new(b"\0abc").is_none());
    }

    #[test]
    fn what_follows_the_end_makes_no_difference() {
        assert!(Text::<6>::new(b"ab\0cd\0") == Text::<6>::new(b"ab\0\0\0\0"));
        assert!(Text::<4>::new(b"ab\0x").is_some_and(|text| text.text() == b"ab"));
    }
}
