// SPDX-License-Identifier: GPL-2.0
//! A pattern that names its own place: each page's content follows from a seed and the page's
//! number.

use crate::sys::PAGE;

pub const WORDS: usize = PAGE / 8;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// How much of each page is written and looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All 4096 bytes.
    Full,
    /// One word: enough to own the page, and cheap for big benchmarks.
    Touch,
}

fn first_word(seed: u64, page: u64) -> u64 {
    let mixed = (page ^ seed.rotate_left(40)).wrapping_mul(GOLDEN);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
}

/// Writes one page.
pub fn write(page: &mut [u64], seed: u64, number: u64, depth: Depth) {
    let mut word = first_word(seed, number);
    let count = if depth == Depth::Full { page.len() } else { 1 };
    for slot in page.iter_mut().take(count) {
        *slot = word;
        word = word.wrapping_add(GOLDEN);
    }
}

/// Whether a page holds what `write` left there.
pub fn holds(page: &[u64], seed: u64, number: u64, depth: Depth) -> bool {
    let mut word = first_word(seed, number);
    let count = if depth == Depth::Full { page.len() } else { 1 };
    page.iter().take(count).all(|slot| {
        let good = *slot == word;
        word = word.wrapping_add(GOLDEN);
        good
    })
}

/// Writes every page of `words`.
pub fn fill(words: &mut [u64], seed: u64, depth: Depth) {
    for (page, number) in words.chunks_mut(WORDS).zip(0u64..) {
        write(page, seed, number, depth);
    }
}

/// The number of the first page that does not hold its pattern, and how many do not.
pub fn damage(words: &[u64], seed: u64, depth: Depth) -> Option<(u64, u64)> {
    let mut damaged = words
        .chunks(WORDS)
        .zip(0u64..)
        .filter(|(page, number)| !holds(page, seed, *number, depth))
        .map(|(_, number)| number);
    let first = damaged.next()?;
    Some((first, 1 + damaged.map(|_| 1).sum::<u64>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_region_is_intact_until_a_word_changes() {
        let mut words = vec![0; 8 * WORDS];
        fill(&mut words, 7, Depth::Full);
        assert_eq!(damage(&words, 7, Depth::Full), None);
        assert_eq!(damage(&words, 8, Depth::Full), Some((0, 8)));
        words[3 * WORDS + 511] ^= 1;
        assert_eq!(damage(&words, 7, Depth::Full), Some((3, 1)));
        assert_eq!(damage(&words, 7, Depth::Touch), None);
    }

    #[test]
    fn pages_that_changed_places_are_noticed() {
        let mut words = vec![0; 2 * WORDS];
        fill(&mut words, 7, Depth::Touch);
        let (left, right) = words.split_at_mut(WORDS);
        left.swap_with_slice(right);
        assert_eq!(damage(&words, 7, Depth::Touch), Some((0, 2)));
    }
}
