// SPDX-License-Identifier: GPL-2.0

//! What a kernel that was handed the sample can still get of it, through the ways the API has.

use std::collections::BTreeSet;

use super::lab::{intact, lab};
use super::sample::{salt, SESSIONS};
use super::world::{Incoming, World};
use crate::sys::error::{EBADMSG, ENOENT};

/// What came of a handover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Files, as session and token, that nobody can have any more.
    pub(crate) lost: BTreeSet<(usize, u64)>,
    /// Files that are to be had, but in another session or under another token.
    pub(crate) moved: BTreeSet<(usize, u64)>,
    /// Sessions of the sample that are not there as they were.
    pub(crate) sessions: BTreeSet<&'static str>,
    /// FLBs that cannot be had.
    pub(crate) flbs: usize,
    /// What is wrong was said: by an error for whoever asked, or to the operator.
    pub(crate) said: bool,
}

impl Found {
    /// Sessions of which a file is lost.
    pub(crate) fn hurt(&self) -> BTreeSet<usize> {
        self.lost.iter().map(|(session, _)| *session).collect()
    }
}

/// Names of all sessions that arrived.
fn names(world: &World) -> Vec<[u8; 64]> {
    let text = world.sessions(1 << 16);
    let lines = text.lines().filter(|line| line.starts_with("incoming"));
    lines
        .map(|line| unescape(line.splitn(6, ' ').nth(5).expect("a name")))
        .collect()
}

/// Undoes [`u8::escape_ascii`].
fn unescape(text: &str) -> [u8; 64] {
    let mut bytes = text.bytes();
    let mut name = [0; 64];
    for to in name.iter_mut() {
        *to = match bytes.next() {
            None => break,
            Some(b'\\') => match bytes.next() {
                Some(b'x') => {
                    let digits = [bytes.next(), bytes.next()].map(|d| d.expect("two digits"));
                    let digits = std::str::from_utf8(&digits).expect("ASCII");
                    u8::from_str_radix(digits, 16).expect("hexadecimal")
                }
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(other) => other,
                None => break,
            },
            Some(byte) => byte,
        }
    }
    name
}

fn open(world: &World, name: &[u8; 64], said: &mut bool) -> Option<Incoming> {
    let operating = world.luo.operate().expect("open");
    match world.luo.retrieve_session(&operating, name) {
        Ok(session) => Some(session),
        Err(err) => {
            assert!([ENOENT, EBADMSG].contains(&err), "{err:?}");
            *said |= err == EBADMSG;
            None
        }
    }
}

/// Retrieves everything, then gives it all up again.
pub(crate) fn survey(world: &World) -> Found {
    let idle = world.owned();
    let mut found = Found::default();
    let mut all = names(world);
    for (name, _) in SESSIONS {
        let name_bytes = super::world::name(name);
        if !all.contains(&name_bytes) {
            found.sessions.insert(name);
            all.push(name_bytes);
        }
    }
    let mut have = Vec::new();
    let mut open_ones = Vec::new();
    for name in all {
        let known = SESSIONS
            .iter()
            .position(|(n, _)| super::world::name(n) == name);
        let Some(session) = open(world, &name, &mut found.said) else {
            found.sessions.extend(known.map(|which| SESSIONS[which].0));
            continue;
        };
        let files = known.map_or(0, |which| SESSIONS[which].1);
        for token in 0..=66 {
            // A damaged token has a bit more, or less.
            let near = (0..64)
                .map(|bit| token ^ 1 << bit)
                .filter(|near| *near > 66);
            let expected = (1..=files).contains(&token);
            for token in std::iter::once(token).chain(near.filter(|_| expected)) {
                match world.retrieve(&session, token) {
                    Ok(file) => have.push((known, token, file)),
                    Err(ENOENT) => continue,
                    Err(_) => found.said = true,
                }
                break;
            }
        }
        open_ones.push(session);
    }
    for which in 0..2 {
        let (flb, name) = lab().flb(which);
        match world.luo.get_incoming(flb, name) {
            Ok(_) => world.luo.put_incoming(flb, name),
            Err(_) => found.flbs += 1,
        }
    }
    for (which, (_, files)) in SESSIONS.into_iter().enumerate() {
        for token in 1..=files {
            let salt = Some(salt(which, token));
            match have.iter().find(|(_, _, file)| intact(file) == salt) {
                None => found.lost.insert((which, token)),
                Some((Some(there), as_token, _)) if (*there, *as_token) == (which, token) => false,
                Some(_) => found.moved.insert((which, token)),
            };
        }
    }
    found.said |= !world.last_error().is_empty();
    for session in open_ones {
        world.close_incoming(session);
    }
    for (_, _, file) in have {
        assert!(!world.luo.is_preserved(&file));
    }
    // An FLB that counts too many users is never finished: its object is still there.
    let live = lab().live();
    assert_eq!(world.owned(), idle + live, "something is kept by nobody");
    let users = lab().modules.iter().map(|module| module.users.get());
    assert_eq!(u64::from(users.sum::<u32>()), live);
    found
}
