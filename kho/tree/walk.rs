// SPDX-License-Identifier: GPL-2.0

//! Walk of nodes and keys together, in the order the C API promises.

use super::node::{child, slot_shift, DEPTH};
use super::Tree;
use crate::kho::addr::PhysAddr;
use crate::sys::{Frame, FRAME_WORDS};

/// Called for each thing that a walk finds. An error ends the walk and is returned from it.
pub(crate) trait Visitor {
    type Error;

    /// A node, before anything below it.
    fn node(&mut self, at: PhysAddr) -> Result<(), Self::Error>;

    /// A key; ascending.
    fn key(&mut self, key: u64) -> Result<(), Self::Error>;
}

impl Tree {
    /// Visits every node and key.
    pub(crate) fn walk<V: Visitor>(&self, visitor: &mut V) -> Result<(), V::Error> {
        walk(self.root(), DEPTH - 1, 0, visitor)
    }
}

fn walk<V: Visitor>(node: Frame, level: u32, base: u64, visitor: &mut V) -> Result<(), V::Error> {
    visitor.node(node.phys())?;
    for word in 0..FRAME_WORDS {
        if level > 0 {
            if let Some(next) = child(node, word) {
                let base = base | (word as u64) << slot_shift(level);
                walk(next, level - 1, base, visitor)?;
            }
            continue;
        }
        let mut bits = node.word(word);
        while bits != 0 {
            visitor.key(base | (word as u64 * 64 + u64::from(bits.trailing_zeros())))?;
            bits &= bits - 1;
        }
    }
    Ok(())
}
