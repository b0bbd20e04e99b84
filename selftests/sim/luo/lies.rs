// SPDX-License-Identifier: GPL-2.0

//! Handovers of the orchestrator's that are wrong in one particular way each, and what that costs.

use std::collections::BTreeSet;

use super::sample::{sample, Kind, Sample, SESSIONS};
use super::survey::Found;
use crate::sys::machine::with;

/// Words of a session's record in the first block of the list.
const fn record(number: usize) -> usize {
    2 + number * 10
}

const FILES: usize = 8;
const COUNT: usize = 9;

fn set(kind: Kind, word: usize, value: u64) {
    with(|m| m.poke(sample().page(kind), word, value));
}

fn get(kind: Kind, word: usize) -> u64 {
    sample().snapshot.word(sample().page(kind), word)
}

fn at(kind: Kind) -> u64 {
    sample().page(kind).raw()
}

fn text(word: &[u8; 8]) -> u64 {
    u64::from_ne_bytes(*word)
}

/// Receives the damaged sample; all files of these sessions are lost, and no others.
#[track_caller]
fn costs(sessions: &[usize], damage: impl FnOnce(&Sample)) -> Found {
    let found = sample().boot(damage);
    let files = |&which: &usize| (1..=SESSIONS[which].1).map(move |token| (which, token));
    let lost: BTreeSet<_> = sessions.iter().flat_map(files).collect();
    assert_eq!(found.lost, lost, "{found:?}");
    assert!(found.moved.is_empty(), "{found:?}");
    found
}

/// As [`costs`], and it is said.
#[track_caller]
fn costs_and_says(sessions: &[usize], damage: impl FnOnce(&Sample)) {
    assert!(costs(sessions, damage).said, "nobody was told");
}

const LIST: Kind = Kind::Sessions(0);
const REST: Kind = Kind::Sessions(1);
const ALL: &[usize] = &[0, 1, 2, 3];

#[test]
fn chains_that_meet_themselves() {
    costs_and_says(&[], |_| set(REST, 0, at(LIST)));
    costs_and_says(&[3], |_| set(LIST, 0, at(LIST)));
    costs_and_says(&[0], |_| set(Kind::Files(0, 1), 0, at(Kind::Files(0, 0))));
    costs_and_says(&[1], |_| set(Kind::Files(1, 0), 0, at(Kind::Files(1, 0))));
}

#[test]
fn counts_that_cannot_be() {
    for count in [0, 52, 1 << 32, 1 << 63, u64::MAX] {
        costs_and_says(ALL, |_| set(LIST, 1, count));
        costs_and_says(&[3], |_| set(REST, 1, count));
    }
    for count in [0, 64, 1 << 63, u64::MAX] {
        costs_and_says(&[1], |_| set(Kind::Files(1, 0), 1, count));
    }
    for count in [0, 2, 4, 1 << 63] {
        costs_and_says(&[1], |_| set(LIST, record(1) + COUNT, count));
    }
    // A list that is cut short looks like one that is short.
    assert!(!costs(&[3], |_| set(REST, 1, 1)).said);
    assert!(!costs(&[3], |_| set(LIST, 0, 0)).said);
}

#[test]
fn addresses_of_nothing() {
    let free = (sample().snapshot.handed.fdt.raw() & !0xfff) + 0x40_0000;
    for wild in [1, 0xfff, free, free + 8, 1 << 40, 1 << 63, u64::MAX, !0xfff] {
        costs_and_says(&[1], |_| set(LIST, record(1) + FILES, wild));
        costs_and_says(&[0], |_| set(Kind::Files(0, 0), 0, wild));
        costs_and_says(&[3], |_| set(LIST, 0, wild));
        costs_and_says(ALL, |_| set(Kind::Root, 2, wild));
        let found = costs(&[], |_| set(Kind::Root, 3, wild));
        assert!(found.said && found.flbs == 2);
    }
    assert!(costs(&[], |_| set(Kind::Root, 3, 0)).flbs == 2);
    costs_and_says(&[1], |_| set(LIST, record(1) + FILES, 0));
}

#[test]
fn names_twice_or_not_at_all() {
    costs_and_says(&[1], |_| set(LIST, record(1), text(b"one\0\0\0\0\0")));
    costs_and_says(&[1], |_| set(LIST, record(1), 0));
    costs_and_says(&[1], |_| {
        (0..8).for_each(|word| set(LIST, record(1) + word, u64::MAX))
    });
    costs_and_says(&[1], |_| {
        (0..6).for_each(|word| set(Kind::Files(1, 0), 2 + word, u64::MAX))
    });
    costs_and_says(&[1], |_| set(Kind::Files(1, 0), 2, 0));
    // Tokens of the first and the second file.
    costs_and_says(&[1], |_| set(Kind::Files(1, 0), 2 + 8 + 7, 1));
}

#[test]
fn a_file_that_nobody_knows() {
    let found = sample().boot(|_| set(Kind::Files(1, 0), 2 + 8, text(b"unknown\0")));
    assert_eq!(found.lost, [(1, 2)].into());
    assert!(found.said);
    let found = sample().boot(|_| set(Kind::Files(1, 0), 2 + 8 + 6, 0x10_0000));
    assert_eq!(found.lost, [(1, 2)].into());
    assert!(found.said);
}

#[test]
fn tables_of_flbs() {
    for count in [64, 1 << 63] {
        let found = costs(&[], |_| set(Kind::Flbs, 1, count));
        assert!(found.said && found.flbs == 2);
    }
    assert!(costs(&[], |_| set(Kind::Flbs, 0, 2)).said);
    for users in [0, 1 << 31, 1 << 63, u64::MAX] {
        let found = costs(&[], |_| set(Kind::Flbs, 2 + 7, users));
        assert!(found.said && found.flbs == 1);
    }
    // Too many users, and too few.
    for users in [1, 1000] {
        costs(&[], |_| set(Kind::Flbs, 2 + 7, users));
    }
    let found = costs(&[], |_| {
        (0..6).for_each(|word| set(Kind::Flbs, 2 + 8 + word, get(Kind::Flbs, 2 + word)));
    });
    assert!(found.said && found.flbs == 1);
    assert_eq!(costs(&[], |_| set(Kind::Flbs, 2 + 6, 0x10_0000)).flbs, 1);
}

#[test]
fn two_sessions_with_the_files_of_one() {
    // Both have one file. Nobody knows whose it is.
    costs_and_says(&[2, 3], |_| {
        set(REST, record(1) + FILES, at(Kind::Files(2, 0)));
    });
    // Session "three" has a block of "one", after its own: too many files.
    costs_and_says(&[2], |_| set(Kind::Files(2, 0), 0, at(Kind::Files(0, 1))));
    costs_and_says(&[2], |_| {
        set(LIST, record(2) + FILES, at(Kind::Files(0, 1)));
    });
}

/// A file's record looks like the record of a session without files.
#[test]
fn a_list_that_runs_into_files() {
    costs_and_says(&[], |_| set(REST, 0, at(Kind::Files(2, 0))));
    costs_and_says(&[], |_| set(REST, 0, at(Kind::Files(1, 0))));
}

#[test]
fn files_that_are_in_the_list() {
    costs_and_says(&[1], |_| set(LIST, record(1) + FILES, at(REST)));
}

/// Makes a file of one page look like a block, or a table.
fn stranger(words: &[(usize, u64)]) -> u64 {
    let at = sample().stranger[0];
    words
        .iter()
        .for_each(|(i, word)| with(|m| m.poke(at, *i, *word)));
    at.raw()
}

/// It is read as what it looks like, and its owner has it all the same.
#[test]
fn somebody_elses_memory_that_looks_like_ours() {
    let list = [(0, 0), (1, 1), (2, text(b"fake\0\0\0\0"))];
    costs(&[], |_| set(REST, 0, stranger(&list)));
    costs(ALL, |_| set(Kind::Root, 2, stranger(&list)));
    let table = [(0, 1), (1, 0)];
    let found = costs(&[], |_| set(Kind::Root, 3, stranger(&table)));
    assert_eq!(found.flbs, 2);
    let files = [
        (0, 0),
        (1, 1),
        (2, text(b"fake-a-v")),
        (3, text(b"1\0\0\0\0\0\0\0")),
    ];
    costs(&[2], |_| set(LIST, record(2) + FILES, stranger(&files)));
}
