// SPDX-License-Identifier: GPL-2.0

//! Structures in page frames, read and written word by word, as frames allow no references.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::sys::Frame;

/// Bytes of a word.
const WORD: usize = 8;

/// Reads a structure that starts `at` bytes into a frame. Both `at` and its size are multiples of
/// eight; what lies beyond the frame reads as zero.
pub(crate) fn read<T: FromBytes + IntoBytes>(frame: Frame, at: usize) -> T {
    let mut value = T::new_zeroed();
    for (i, bytes) in value.as_mut_bytes().chunks_mut(WORD).enumerate() {
        let word = frame.word(at / WORD + i).to_ne_bytes();
        bytes.iter_mut().zip(word).for_each(|(to, from)| *to = from);
    }
    value
}

/// Writes a structure to where [`read`] finds it.
pub(crate) fn write<T: IntoBytes + Immutable>(frame: Frame, at: usize, value: &T) {
    for (i, bytes) in value.as_bytes().chunks(WORD).enumerate() {
        let mut word = [0; WORD];
        word.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        frame.set_word(at / WORD + i, u64::from_ne_bytes(word));
    }
}
