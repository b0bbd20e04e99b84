// SPDX-License-Identifier: GPL-2.0

//! Arrays that were handed over: checked as a whole, then taken over as a whole.

use super::shape::{place, values_of, BITS, HEIGHTS, KIND, LAST_LEAF, MAP, TREES, VALUES};
use super::{Array, TYPE};
use crate::kho::addr::PhysAddr;
use crate::kho::adopt::Claimed;
use crate::kho::link;
use crate::kho::root::Root;
use crate::sys::error::{Result, EINVAL, ENOMEM};
use crate::sys::{log, Frame, FRAME_WORDS};

impl Array {
    /// Takes over the array whose root is at an address. Nothing in it is trusted: every page of it
    /// must have been preserved and be nobody's, and every link must be made for its place.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an array of another name, or one that is damaged; `EIO` if some of its memory
    /// has gone bad; `ENOMEM`. It stays as it is then, and waits.
    pub(crate) fn attach(root: PhysAddr, name: &[u8]) -> Result<Self> {
        let mut claimed = Claimed::new();
        let frame = Root::claim(&mut claimed, &KIND, root, name, TYPE)?;
        let mut len = 0;
        for tree in 0..HEIGHTS {
            let link = frame.word(TREES + tree as usize);
            let mut nodes = Nodes {
                claimed: &mut claimed,
                tree,
            };
            if link != 0 {
                len += nodes.take(link, tree, 0).inspect_err(|err| {
                    if *err != ENOMEM {
                        log::pr_warn!(
                            "array at {:#x} is not taken over, its tree of {tree} levels is damaged\n",
                            root.raw()
                        );
                    }
                })?;
            }
        }
        Ok(Self {
            root: Root::adopt(claimed, &KIND, frame, name)?,
            last: None,
            len,
        })
    }
}

/// The nodes of one of an array's trees.
struct Nodes<'a> {
    claimed: &'a mut Claimed,
    tree: u32,
}

impl Nodes<'_> {
    /// Claims and checks the node that a link leads to, number `number` of its level, and all below
    /// it. Returns how many values there are. No deeper than a tree is high.
    fn take(&mut self, link: u64, level: u32, number: u64) -> Result<u64> {
        let at = link::judge(link, place(level, number)).ok_or(EINVAL)?;
        let node = self.claimed.claim(at)?;
        if level == 0 {
            return values(node, number).ok_or(EINVAL);
        }
        let mut len = 0;
        for slot in 0..FRAME_WORDS {
            let link = node.word(slot);
            if link == 0 {
                continue;
            }
            if level == self.tree && slot == 0 {
                // Its leaves have fewer digits, and belong to another tree.
                return Err(EINVAL);
            }
            len += self.take(link, level - 1, number << BITS | slot as u64)?;
        }
        Ok(len)
    }
}

/// How many values a leaf has; `None` if there are some where none can be.
fn values(leaf: Frame, number: u64) -> Option<u64> {
    if number > LAST_LEAF {
        return None;
    }
    let most = values_of(number);
    (0..MAP).try_fold(0, |len, word| {
        let bits = leaf.word(VALUES + word);
        let mask = match most.saturating_sub(word * 64) {
            0 => 0,
            some @ 1..=63 => (1 << some) - 1,
            _ => u64::MAX,
        };
        (bits & !mask == 0).then(|| len + u64::from(bits.count_ones()))
    })
}
