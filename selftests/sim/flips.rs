// SPDX-License-Identifier: GPL-2.0

//! One bit wrong anywhere in what was handed over.
//!
//! Each bit of each page of metadata of the sample is flipped once, in a handover of its own. What
//! must hold then is checked by `Sample::boot` and the machine's own rules; here it is counted what
//! the flip cost. `cargo test` flips the bits of words that are in use and every so-manieth of the
//! others; all of them with `SOAK=1` (`make soak`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::sample::{Kind, Page, Sample};
use super::survey::Found;
use super::targets::sample;
use crate::sys::machine::with;

/// Of bits in words that are zero, `cargo test` flips one in so many: a prime, so that it meets
/// every position in a word.
const ZERO_WORDS: usize = 251;

/// Of bits in words that are not, one in so many.
const USED_WORDS: usize = 5;

/// Of all flips, one in so many says how far it has come.
const PROGRESS: usize = 20_000;

/// What flips of one kind of page cost.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    nothing: u64,
    one: u64,
    several: u64,
    whole: u64,
}

impl Counts {
    fn add(&mut self, found: &Found) {
        let count = match found {
            Found::Refused(_) => &mut self.whole,
            Found::Taken { lost } => match lost.len() {
                0 => &mut self.nothing,
                1 => &mut self.one,
                _ => &mut self.several,
            },
        };
        *count += 1;
    }
}

/// Names the flip under test if it fails.
struct Flip(Page, usize);

impl Drop for Flip {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(page, bit) = *self;
            let (word, bit) = (bit / 64, bit % 64);
            eprintln!(
                "flipped: {:?} {:#x}, word {word}, bit {bit}",
                page.kind,
                page.at.raw()
            );
        }
    }
}

fn flip(sample: &Sample, page: Page, bit: usize) -> Found {
    let _named = Flip(page, bit);
    let found = sample.boot(sample.handed, |_| {
        with(|m| {
            m.poke(
                page.at,
                bit / 64,
                m.peek(page.at, bit / 64) ^ 1 << (bit % 64),
            )
        });
    });
    // Bits of the tree that cannot be seen to be wrong are seen to be other than they were.
    if page.kind == Kind::TreeNode && matches!(found, Found::Taken { .. }) {
        let log = with(|m| m.take_log());
        assert!(log.iter().any(|line| line.contains("checksum")), "{log:?}");
    }
    found
}

/// The bits to flip.
fn choose(sample: &Sample, all: bool) -> Vec<(Page, usize)> {
    let mut chosen = Vec::new();
    let mut seen = [0usize; 2];
    for &page in &sample.pages {
        for bit in 0..page.words * 64 {
            let used = sample.word(page.at, bit / 64) != 0;
            let one_in = if used { USED_WORDS } else { ZERO_WORDS };
            let count = &mut seen[usize::from(used)];
            *count += 1;
            if all || *count % one_in == 0 {
                chosen.push((page, bit));
            }
        }
    }
    chosen
}

#[test]
fn nothing_flipped_costs_nothing() {
    let found = sample().boot(sample().handed, |_| {});
    assert!(
        matches!(&found, Found::Taken { lost } if lost.is_empty()),
        "{found:?}"
    );
}

#[test]
fn each_bit() {
    let all = std::env::var_os("SOAK").is_some();
    let sample = sample();
    let flips = choose(sample, all);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut counts = BTreeMap::<Kind, Counts>::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(page, bit)) = flips.get(number) else {
                break;
            };
            if all && number % PROGRESS == 0 {
                println!(
                    "{number} of {} flips, {counts:?} by one thread",
                    flips.len()
                );
            }
            let found = flip(sample, page, bit);
            counts.entry(page.kind).or_default().add(&found);
        }
        counts
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut total = BTreeMap::<Kind, Counts>::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for counts in workers
            .into_iter()
            .flat_map(|w| w.join().expect("no flip fails"))
        {
            let sum = total.entry(counts.0).or_default();
            sum.nothing += counts.1.nothing;
            sum.one += counts.1.one;
            sum.several += counts.1.several;
            sum.whole += counts.1.whole;
        }
    });
    println!(
        "{:<14}{:>9}{:>9}{:>9}{:>9}",
        "flipped in", "nothing", "one", "several", "whole"
    );
    for (kind, c) in &total {
        let kind = format!("{kind:?}");
        println!(
            "{kind:<14}{:>9}{:>9}{:>9}{:>9}",
            c.nothing, c.one, c.several, c.whole
        );
    }
    println!("{} flips", flips.len());
}
