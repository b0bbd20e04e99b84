// SPDX-License-Identifier: GPL-2.0

//! Looks, before there is no way back, whether the next kernel could take over what is preserved.
//!
//! What it would refuse it refuses as a whole, after the jump. Here it costs a word: no frame may
//! be preserved twice, and all must be memory that the next kernel has. Costs follow runs and
//! nodes, not pages.

use super::addr::{Order, Pfn};
use super::key::{encode, Run};
use super::merge::{Fault, Merge, ORDERS};
use super::ram::Ram;
use super::tree::Tree;
use crate::sys::boot_mem::BootSlice;
use crate::sys::log::Display;

/// Why the next kernel would not take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Something is preserved that the next kernel does not have when it takes over.
    NotThere(Pfn),
    /// The record itself lies there.
    RecordNotThere(Pfn),
    /// Two preservations have this frame: in blocks of these orders, one bit each.
    Twice(Pfn, u64),
    /// This is recorded as preserved and is no key.
    NotAKey(u64),
    /// The next kernel's memory cannot be listed.
    TooMany,
    /// There was no memory to look.
    NoMemory,
}

impl Display for Wrong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotThere(at) => write!(
                f,
                "preserved memory at {:#x} is not in the next kernel's memory map",
                at.phys().raw()
            ),
            Self::RecordNotThere(at) => write!(
                f,
                "the record of what is preserved, at {:#x}, is not in the next kernel's memory map",
                at.phys().raw()
            ),
            Self::Twice(at, orders) => {
                write!(f, "memory at {:#x} is preserved twice", at.phys().raw())?;
                let mut word = ": in blocks of order";
                for order in (0..u64::BITS).filter(|order| orders >> order & 1 != 0) {
                    write!(f, "{word} {order}")?;
                    word = " and";
                }
                Ok(())
            }
            Self::NotAKey(key) => write!(f, "{key:#x} is recorded, which is no key"),
            Self::TooMany => {
                f.write_str("its command line says more about memory than can be looked at")
            }
            Self::NoMemory => f.write_str("there is no memory to look at what is preserved"),
        }
    }
}

/// Looks at all that a tree has as preserved, and at the tree.
pub(crate) fn audit(tree: Tree, ram: &Ram) -> Result<(), Wrong> {
    let heads = BootSlice::filled(ORDERS, || None);
    let mut heads = heads.ok_or(Wrong::NoMemory)?;
    let mut ranges = Merge::new(&mut heads, tree, &[]);
    let orders = ranges.orders();
    let lacks = ranges.find_map(|range| ram.lacks(range));
    match ranges.fault() {
        Some(Fault::Overlap(at)) => return Err(Wrong::Twice(at, orders_at(tree, at, orders))),
        Some(Fault::NotAKey(key)) => return Err(Wrong::NotAKey(key)),
        None => {}
    }
    if let Some(at) = lacks {
        return Err(Wrong::NotThere(at));
    }
    let mut nodes = tree.nodes(|_| true).flatten().map(|node| node.pfn());
    match nodes.find(|node| ram.around(*node).is_empty()) {
        Some(node) => Err(Wrong::RecordNotThere(node)),
        None => Ok(()),
    }
}

/// Of the orders that are in use, those of the blocks that a frame is preserved in.
fn orders_at(tree: Tree, at: Pfn, orders: u64) -> u64 {
    let used = (0..u64::BITS).filter(|order| orders >> order & 1 != 0);
    let has = used.filter_map(Order::new).filter(|order| {
        tree.has_all(Run {
            first: encode(at, *order),
            len: 1,
        })
    });
    has.fold(0, |bits, order| bits | 1 << order.raw())
}
