// SPDX-License-Identifier: GPL-2.0

//! Each bit of what the orchestrator left is flipped once, in a handover of its own: what is lost
//! is at most what the bit was about. `cargo test` flips some; all of them with `SOAK=1`
//! (`make soak`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::sample::{sample, Kind, Page, SESSIONS};
use super::survey::Found;
use crate::sys::machine::with;

/// Of bits in words that are not in use, `cargo test` flips one in so many, and of the others.
const UNUSED: usize = 4999;
const USED: usize = 23;

/// What flips of one kind of page cost.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    nothing: u64,
    moved: u64,
    file: u64,
    session: u64,
    several: u64,
    all: u64,
    /// Of those that cost something, these went unnoticed.
    silent: u64,
}

impl Counts {
    fn add(&mut self, found: &Found) {
        let hurt = found.hurt().len();
        let count = match (found.lost.len(), hurt) {
            (0, _) if found.moved.is_empty() && found.sessions.is_empty() => &mut self.nothing,
            (0, _) => &mut self.moved,
            (1, _) if found.sessions.is_empty() => &mut self.file,
            (_, 1) => &mut self.session,
            (_, n) if n < SESSIONS.len() => &mut self.several,
            _ => &mut self.all,
        };
        *count += 1;
        self.silent += u64::from(!found.lost.is_empty() && !found.said);
    }

    fn sum(&mut self, other: &Self) {
        self.nothing += other.nothing;
        self.moved += other.moved;
        self.file += other.file;
        self.session += other.session;
        self.several += other.several;
        self.all += other.all;
        self.silent += other.silent;
    }
}

/// Sessions of the sample that a word is about.
fn about(page: Page, word: usize) -> BTreeSet<usize> {
    let record = word.wrapping_sub(2) / 10;
    match (page.kind, word) {
        (Kind::Root, 0 | 2) => (0..4).collect(),
        (Kind::Root | Kind::Flbs, _) => BTreeSet::new(),
        (Kind::Sessions(0), 0) => [3].into(),
        (Kind::Sessions(0), 1) => (0..4).collect(),
        (Kind::Sessions(0), _) => [record].into_iter().filter(|r| *r < 3).collect(),
        (Kind::Sessions(_), 0 | 1) => [3].into(),
        (Kind::Sessions(_), _) => [3].into_iter().filter(|_| record == 1).collect(),
        (Kind::Files(session, _), _) => [session].into(),
    }
}

/// Whether a flip may go unnoticed: a chain that is cut short where a shorter one could end.
fn may_be_silent(page: Page, word: usize) -> bool {
    matches!(
        (page.kind, word),
        (Kind::Sessions(_), 0 | 1) | (Kind::Root, 2)
    )
}

/// Names the flip under test if it fails.
struct Flip(Page, usize);

impl Drop for Flip {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(page, bit) = *self;
            let (word, bit, at) = (bit / 64, bit % 64, page.at.raw());
            eprintln!("flipped: {:?} {at:#x}, word {word}, bit {bit}", page.kind);
        }
    }
}

fn flip(page: Page, bit: usize) -> Found {
    let _named = Flip(page, bit);
    let (word, mask) = (bit / 64, 1 << (bit % 64));
    let found = sample().boot(|_| with(|m| m.poke(page.at, word, m.peek(page.at, word) ^ mask)));
    let mut allowed = about(page, word);
    // A wrong address may be that of another session's files.
    let named = sample().snapshot.word(page.at, word) ^ mask;
    allowed.extend(sample().pages.iter().filter_map(|other| match other.kind {
        Kind::Files(session, _) if other.at.raw() == named => Some(session),
        _ => None,
    }));
    assert!(found.hurt().is_subset(&allowed), "more is lost: {found:?}");
    if !found.lost.is_empty() && !found.said {
        assert!(may_be_silent(page, word), "nobody was told: {found:?}");
    }
    found
}

/// The bits to flip.
fn choose(all: bool) -> Vec<(Page, usize)> {
    let mut chosen = Vec::new();
    let mut seen = [0usize; 2];
    for &page in &sample().pages {
        for bit in 0..512 * 64 {
            let used = bit / 64 < page.words;
            let one_in = if used { USED } else { UNUSED };
            let count = &mut seen[usize::from(used)];
            *count += 1;
            // Pointers, counts and the root's number matter most.
            let header = used && (bit / 64 < 2 || page.kind == Kind::Root);
            if all || header || *count % one_in == 0 {
                chosen.push((page, bit));
            }
        }
    }
    chosen
}

#[test]
fn nothing_flipped_costs_nothing() {
    assert_eq!(sample().boot(|_| {}), Found::default());
}

#[test]
fn each_bit() {
    let flips = choose(std::env::var_os("SOAK").is_some());
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut counts = BTreeMap::<Kind, Counts>::new();
        while let Some(&(page, bit)) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
            counts.entry(page.kind).or_default().add(&flip(page, bit));
        }
        counts
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut total = BTreeMap::<Kind, Counts>::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for counts in workers {
            for (kind, counts) in counts.join().expect("no flip fails") {
                total.entry(kind).or_default().sum(&counts);
            }
        }
    });
    println!("flipped in     nothing  moved   file session several    all silent");
    for (kind, c) in &total {
        let kind = format!("{kind:?}");
        println!(
            "{kind:<14}{:>8}{:>7}{:>7}{:>8}{:>8}{:>7}{:>7}",
            c.nothing, c.moved, c.file, c.session, c.several, c.all, c.silent
        );
    }
    println!("{} flips", flips.len());
}
