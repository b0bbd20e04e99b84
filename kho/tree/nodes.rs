// SPDX-License-Identifier: GPL-2.0

//! Walk of a tree's own nodes, for a tree that came from another kernel and is not trusted.

use super::node::DEPTH;
use super::Tree;
use crate::kho::addr::PhysAddr;
use crate::sys::{Frame, FRAME_WORDS};

/// Yields the address of every node, the root first, a parent before its children.
///
/// Entries for which `usable` says no are yielded as errors and not followed. The walk visits as
/// many nodes as the tree claims to have: the caller stops when that is more than can be.
pub(crate) struct Nodes<F> {
    /// From the root down: the node, and the next slot to look at.
    path: [(Frame, usize); DEPTH as usize],
    depth: usize,
    started: bool,
    usable: F,
}

impl Tree {
    /// The tree's own nodes. `usable` says whether memory at an address may be read.
    pub(crate) fn nodes<F: FnMut(PhysAddr) -> bool>(&self, usable: F) -> Nodes<F> {
        Nodes {
            path: [(self.root(), 0); DEPTH as usize],
            depth: 0,
            started: false,
            usable,
        }
    }
}

impl<F: FnMut(PhysAddr) -> bool> Iterator for Nodes<F> {
    type Item = core::result::Result<PhysAddr, PhysAddr>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.started {
            self.started = true;
            return Some(Ok(self.path[0].0.phys()));
        }
        loop {
            let (node, slot) = *self.path.get(self.depth)?;
            if self.depth + 1 == self.path.len() || slot == FRAME_WORDS {
                self.depth = self.depth.checked_sub(1)?;
                continue;
            }
            self.path[self.depth].1 = slot + 1;
            let entry = PhysAddr::new(node.word(slot));
            if entry.raw() == 0 {
                continue;
            }
            let usable = (self.usable)(entry);
            return Some(match Frame::at(entry) {
                Some(frame) if usable => {
                    self.depth += 1;
                    self.path[self.depth] = (frame, 0);
                    Ok(entry)
                }
                _ => Err(entry),
            });
        }
    }
}
