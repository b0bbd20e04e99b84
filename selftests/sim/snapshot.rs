// SPDX-License-Identifier: GPL-2.0

//! A machine at the moment of a kexec, to be started from again and again.

use super::kernel::{small_machine, words_at, Handed};
use crate::kho::addr::{Pfn, PhysAddr};
use crate::sys::machine::{install, with, Owner, Words};

/// Everything that was left, with the frame of the scratch list.
pub(crate) struct Snapshot {
    pub(crate) handed: Handed,
    frames: Vec<(PhysAddr, Box<Words>)>,
}

impl Snapshot {
    /// Of this thread's machine, a small one, which was just handed over.
    pub(crate) fn take(handed: Handed) -> Self {
        let list = handed.list.pfn().raw();
        let kept = |&pfn: &u64| pfn == list || with(|m| m.owner(pfn)) == Owner::Left;
        let frames = (0..with(|m| m.frames())).filter(kept).map(|pfn| {
            let at = Pfn::new(pfn).phys();
            (
                at,
                Box::new(words_at(at).try_into().expect("a frame's words")),
            )
        });
        Self {
            handed,
            frames: frames.collect(),
        }
    }

    /// A word as it was handed over.
    pub(crate) fn word(&self, at: PhysAddr, word: usize) -> u64 {
        let frame = self.frames.iter().find(|(have, _)| *have == at);
        frame.map_or(0, |(_, words)| words[word])
    }

    /// Puts a machine in place that was handed all of this and runs no kernel yet.
    pub(crate) fn hand_over(&self) {
        install(small_machine());
        // The scratch list is part of the next kernel's image: nobody's until that runs.
        let list = self.handed.list;
        let all = self.frames.iter().map(|(at, _)| *at);
        let left: Vec<u64> = all
            .filter(|&at| at != list)
            .map(|at| at.pfn().raw())
            .collect();
        with(|m| {
            m.kexec(&left);
            for (at, words) in &self.frames {
                m.words_mut(at.pfn().raw()).copy_from_slice(&words[..]);
            }
            m.hostile = true;
        });
    }
}
