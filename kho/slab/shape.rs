// SPDX-License-Identifier: GPL-2.0

//! The layout of a cache for a size and an alignment: objects in a page, entries in a page of the
//! index.

use crate::kho::root::{self, Kind, Type};
use crate::sys::error::{Result, EINVAL};
use crate::sys::layout::{field, fingerprint};
use crate::sys::{declare::Declared, declare_format, FRAME_WORDS};

/// Bytes of a page.
pub(crate) const PAGE: usize = FRAME_WORDS * 8;

/// Bytes of a word; no object is aligned to less.
pub(crate) const WORD: usize = 8;

/// Words of the header of a page of the index.
pub(crate) const HEADER: usize = 2;
/// The word with the link to the next page of the index.
pub(crate) const NEXT: usize = 0;
/// The word with the seal of a page of the index.
pub(crate) const SEAL: usize = 1;

declare_format! {
    /// Caches. Read by every kernel; written only for a driver that makes one, whose own format
    /// says that there is something to hand over.
    FORMAT = Declared::new("kho-slab", 1, "r", LAYOUT);
}

const LAYOUT: u32 = fingerprint(&[
    &root::FIELDS,
    &[field("first", FIRST * WORD, WORD)],
    &[
        field("next", NEXT * WORD, WORD),
        field("seal", SEAL * WORD, WORD),
        field("entries", HEADER * WORD, PAGE - HEADER * WORD),
    ],
    &[field("page", 0, WORD), field("objects", WORD, WORD)],
]);

/// Roots of caches.
pub(crate) const KIND: Kind = Kind {
    magic: *b"kho-slab",
    version: 1,
    prefix: "slab",
};

/// The word of the root that has the link to the first page of the index.
pub(crate) const FIRST: usize = root::HEADER / WORD;

/// How a cache is laid out: follows from size and alignment of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) of: Type,
    /// Bytes from an object to the next.
    pub(crate) stride: usize,
    /// Objects in a page.
    pub(crate) objects: usize,
    /// Words of an entry: the link, and the bits.
    pub(crate) entry: usize,
    /// Entries in a page of the index.
    pub(crate) entries: usize,
    /// What an offset is multiplied with to divide it by the stride, see [`Self::divide`].
    inverse: u32,
}

/// What the inverse is a fraction of. With offsets and strides up to a page the quotient is exact:
/// the inverse is too large by less than one, so the product by less than 2^12, a fraction of 2^24
/// that is less than one by a stride.
const ONE: u32 = 1 << 24;

impl Shape {
    /// # Errors
    ///
    /// [`EINVAL`] unless the size is 1 to a page, and the alignment a power of two up to a page; an
    /// alignment of 0 is that of a word.
    pub(crate) fn new(size: usize, align: usize) -> Result<Self> {
        let known = align == 0 || align.is_power_of_two();
        if size == 0 || size > PAGE || !known || align > PAGE {
            return Err(EINVAL);
        }
        let align = align.max(WORD);
        let stride = size.next_multiple_of(align);
        let objects = PAGE.checked_div(stride).ok_or(EINVAL)?;
        let entry = 1 + objects.div_ceil(64);
        let narrow = |value: usize| u32::try_from(value).map_err(|_| EINVAL);
        Ok(Self {
            of: Type {
                size: narrow(size)?,
                align: narrow(align)?,
            },
            stride,
            objects,
            entry,
            entries: (FRAME_WORDS - HEADER) / entry,
            inverse: ONE.div_ceil(narrow(stride)?),
        })
    }

    /// Which object of a page begins at an offset in it.
    pub(super) fn divide(&self, offset: usize) -> Option<usize> {
        let number = (offset * self.inverse as usize) / ONE as usize;
        (number < self.objects && number * self.stride == offset).then_some(number)
    }

    /// The number among all entries of one of a page of the index.
    pub(super) fn entry_number(&self, number: usize, slot: usize) -> u64 {
        (number as u64).wrapping_mul(self.entries as u64) + slot as u64
    }

    /// The bits of word `word` of an entry's that stand for objects.
    pub(crate) fn mask(&self, word: usize) -> u64 {
        match self.objects.saturating_sub(word * 64) {
            0 => 0,
            bits @ 1..=63 => (1 << bits) - 1,
            _ => u64::MAX,
        }
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_slab_shape))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn whatever_fits_a_page() {
        for size in (1..=PAGE).step_by(if cfg!(kernel) { 37 } else { 1 }) {
            for align in [0, 1, 2, 64, PAGE] {
                let Ok(shape) = Shape::new(size, align) else {
                    panic!("{size} {align}");
                };
                assert!(shape.stride >= size && shape.stride % align.max(8) == 0);
                assert!(shape.objects >= 1 && shape.objects * shape.stride <= PAGE);
                assert!(shape.entries >= 1 && shape.entries < 256);
                let bits: u32 = (0..shape.entry - 1)
                    .map(|w| shape.mask(w).count_ones())
                    .sum();
                assert!(bits as usize == shape.objects);
                for offset in 0..PAGE {
                    let object = (offset / shape.stride, offset % shape.stride);
                    let known = object.1 == 0 && object.0 < shape.objects;
                    assert!(shape.divide(offset) == known.then_some(object.0));
                }
            }
        }
    }

    #[test]
    fn nothing_else() {
        assert!(Shape::new(0, 8).is_err());
        assert!(Shape::new(PAGE + 1, 8).is_err());
        assert!(Shape::new(8, 3).is_err());
        assert!(Shape::new(8, PAGE * 2).is_err());
        assert!(Shape::new(usize::MAX, usize::MAX).is_err());
    }
}
