// SPDX-License-Identifier: GPL-2.0

//! A handover of the orchestrator's with something of everything in it, to be damaged and received
//! again and again.
//!
//! Session "one" has 65 files in two blocks, "two" has three, "three" one, "four" none; then come
//! so many empty ones that the list has two blocks, and "last" with one file at its end.

use std::sync::OnceLock;

use super::lab::{a_file, place};
use super::survey::{survey, Found};
use super::world::{root_at, root_of, World};
use crate::kho::addr::PhysAddr;
use crate::sim::kernel::Kernel;
use crate::sim::snapshot::Snapshot;
use crate::sys::machine::with;

/// Sessions with files, and how many each has; all in the first block but the last of them.
pub(crate) const SESSIONS: [(&str, u64); 4] = [("one", 65), ("two", 3), ("three", 1), ("last", 1)];

/// Sessions in all.
const ALL: usize = 53;

/// What a page of metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Root,
    Flbs,
    /// Which block of the list.
    Sessions(usize),
    /// Which session's, and which block of it.
    Files(usize, usize),
}

/// A page of metadata, and how many of its words are in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) kind: Kind,
    pub(crate) at: PhysAddr,
    pub(crate) words: usize,
}

pub(crate) struct Sample {
    pub(crate) snapshot: Snapshot,
    pub(crate) pages: Vec<Page>,
    /// The page of a file of "two": a stranger that may look like anything but in its last words.
    pub(crate) stranger: Vec<PhysAddr>,
}

/// What the file with that token in that session has in it.
pub(crate) fn salt(session: usize, token: u64) -> u64 {
    session as u64 * 1000 + token
}

/// The sample of all tests.
pub(crate) fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(Sample::new)
}

impl Sample {
    fn new() -> Self {
        let world = World::cold();
        let mut stranger = Vec::new();
        let mut sessions = Vec::new();
        let mut add = |name: &str| sessions.push(world.create(name).expect("memory"));
        SESSIONS[..3].iter().for_each(|(name, _)| add(name));
        add("four");
        (5..ALL).for_each(|n| add(&format!("empty {n}")));
        add("last");
        let holders = [0, 1, 2, sessions.len() - 1];
        for (which, holder) in holders.into_iter().enumerate() {
            for token in 1..=SESSIONS[which].1 {
                let file = a_file((token % 2) as usize, salt(which, token)).expect("memory");
                world
                    .preserve(&sessions[holder], token, &file)
                    .expect("memory");
                if (which, token) == (1, 2) {
                    stranger.push(place(&file));
                }
                std::mem::forget(file);
            }
        }
        std::mem::forget(sessions);
        world.luo.reboot().expect("nothing fails");
        let handed = world.kexec();
        let (root, _) = root_at(handed);
        let snapshot = Snapshot::take(handed);
        let word = |at, word| snapshot.word(at, word);
        let mut pages = vec![
            Page {
                kind: Kind::Root,
                at: root,
                words: 4,
            },
            Page {
                kind: Kind::Flbs,
                at: PhysAddr::new(word(root, 3)),
                words: 2 + 2 * 8,
            },
        ];
        let chain = |head: u64, words: usize, kind: &dyn Fn(usize) -> Kind| {
            let mut blocks = Vec::new();
            let mut at = PhysAddr::new(head);
            while at.raw() != 0 {
                blocks.push(Page {
                    kind: kind(blocks.len()),
                    at,
                    words: 2 + words * word(at, 1) as usize,
                });
                at = PhysAddr::new(word(at, 0));
            }
            blocks
        };
        let list = chain(word(root, 2), 10, &Kind::Sessions);
        assert_eq!(list.len(), 2);
        let files_at = |block: usize, record: usize| word(list[block].at, 2 + record * 10 + 8);
        let heads = [
            files_at(0, 0),
            files_at(0, 1),
            files_at(0, 2),
            files_at(1, 1),
        ];
        for (session, head) in heads.into_iter().enumerate() {
            pages.extend(chain(head, 8, &|block| Kind::Files(session, block)));
        }
        pages.extend(list);
        assert_eq!(pages.len(), 9);
        Self {
            snapshot,
            pages,
            stranger,
        }
    }

    pub(crate) fn page(&self, kind: Kind) -> PhysAddr {
        let page = self.pages.iter().find(|page| page.kind == kind);
        page.expect("it is there").at
    }

    /// Hands it over with `damage` done to it, boots, and takes what can be had.
    pub(crate) fn boot_once(&self, damage: impl FnOnce(&Self)) -> (World, Found) {
        self.snapshot.hand_over();
        damage(self);
        let (kernel, refused) = Kernel::warm(self.snapshot.handed);
        assert!(refused.is_none(), "KHO's part is good: {refused:?}");
        let root = root_of(&kernel, self.snapshot.handed);
        let world = World::boot(kernel, root).expect("memory");
        let found = survey(&world);
        (world, found)
    }

    /// As [`Self::boot_once`], and shows that the machine is none the worse for it.
    pub(crate) fn boot(&self, damage: impl FnOnce(&Self)) -> Found {
        let (world, found) = self.boot_once(damage);
        with(|m| m.hostile = false);
        update_once_more(world);
        found
    }
}

/// A live update in which nothing may go wrong.
fn update_once_more(world: World) {
    let session = world.create("clean").expect("memory");
    let file = a_file(1, 4).expect("memory");
    world.preserve(&session, 1, &file).expect("memory");
    world.luo.reboot().expect("nothing fails");
    std::mem::forget((session, file));
    let world = World::warm(world.kexec());
    let session = world.open("clean").expect("it came");
    let file = world.retrieve(&session, 1).expect("it came");
    assert_eq!(super::lab::intact(&file), Some(4));
    world.close_incoming(session);
    assert!(super::lab::lab().is_idle());
}
