// SPDX-License-Identifier: GPL-2.0

//! Inserting and removing runs of keys.

use super::node::{child, is_empty, leaves, masks, slot, DEPTH};
use super::Tree;
use crate::kho::key::{Run, KEY_BITS};
use crate::sys::error::{Result, EINVAL, ENOMEM, ERANGE};
use crate::sys::{Frame, NodeStore, FRAME_WORDS};

impl Tree {
    /// Adds every key of a run; keys already present stay.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] for keys wider than the format allows, [`ENOMEM`] when a node cannot be
    /// allocated; the tree is then as it was.
    pub(crate) fn insert(&self, run: Run, store: &mut impl NodeStore) -> Result {
        let end = run.first.checked_add(run.len).ok_or(ERANGE)?;
        if end > 1 << KEY_BITS {
            return Err(ERANGE);
        }
        // All nodes first, all bits after: bits cannot fail, and empty nodes are easily told from
        // those that were there before.
        for (leaf, _, _) in leaves(run.first, end) {
            if let Err(err) = self.grow(leaf, store) {
                for (made, _, _) in leaves(run.first, end).take_while(|l| l.0 <= leaf) {
                    self.prune(made, 0, store);
                }
                return Err(err);
            }
        }
        for (number, first, end) in leaves(run.first, end) {
            if let Some(leaf) = self.leaf(number) {
                for (word, mask) in masks(first, end) {
                    leaf.set_word(word, leaf.word(word) | mask);
                }
            }
        }
        Ok(())
    }

    /// Removes the keys of a run and gives empty nodes back. Returns how many were there.
    pub(crate) fn remove(&self, run: Run, store: &mut impl NodeStore) -> u64 {
        let mut removed = 0;
        for (number, first, end) in legal(run) {
            let Some(leaf) = self.leaf(number) else {
                continue;
            };
            removed += clear(leaf, first, end);
            self.prune(number, (first / 64) as usize, store);
        }
        removed
    }

    /// Removes the keys of a run but keeps the nodes, so that [`Tree::put_back`] cannot fail.
    /// Returns how many were there.
    pub(crate) fn take_out(&self, run: Run) -> u64 {
        legal(run)
            .filter_map(|(number, first, end)| Some(clear(self.leaf(number)?, first, end)))
            .sum()
    }

    /// Whether every key of a run is present.
    pub(crate) fn has_all(&self, run: Run) -> bool {
        legal(run).all(|(number, first, end)| {
            self.leaf(number).is_some_and(|leaf| {
                masks(first, end).all(|(word, mask)| leaf.word(word) & mask == mask)
            })
        }) && run.end() <= 1 << KEY_BITS
    }

    /// Undoes [`Tree::take_out`].
    pub(crate) fn put_back(&self, run: Run) -> Result {
        for (number, first, end) in legal(run) {
            let leaf = self.leaf(number).ok_or(EINVAL)?;
            for (word, mask) in masks(first, end) {
                leaf.set_word(word, leaf.word(word) | mask);
            }
        }
        Ok(())
    }

    /// Gives back the nodes on the way to the keys of a run that hold nothing any more.
    pub(crate) fn prune_run(&self, run: Run, store: &mut impl NodeStore) {
        for (number, first, _) in legal(run) {
            self.prune(number, (first / 64) as usize, store);
        }
    }

    /// Gives back every node that is empty, the root excepted.
    pub(crate) fn sweep(&self, store: &mut impl NodeStore) {
        sweep(self.root(), DEPTH - 1, store);
    }

    /// Gives back every node, the root included.
    pub(crate) fn destroy(self, store: &mut impl NodeStore) {
        destroy(self.root(), DEPTH - 1, store);
    }

    /// The leaf of that number, if it exists.
    pub(super) fn leaf(&self, number: u64) -> Option<Frame> {
        (1..DEPTH)
            .rev()
            .try_fold(self.root(), |node, level| child(node, slot(number, level)))
    }

    /// Makes the way to a leaf.
    fn grow(&self, number: u64, store: &mut impl NodeStore) -> Result {
        let mut node = self.root();
        for level in (1..DEPTH).rev() {
            let slot = slot(number, level);
            node = match child(node, slot) {
                Some(next) => next,
                None => {
                    let new = store.alloc().ok_or(ENOMEM)?;
                    node.set_word(slot, new.phys().raw());
                    new
                }
            };
        }
        Ok(())
    }

    /// Gives back the nodes on the way to a leaf that are empty, from the bottom up.
    fn prune(&self, number: u64, near: usize, store: &mut impl NodeStore) {
        let mut path = [(self.root(), 0); DEPTH as usize];
        let mut filled = 1;
        for level in (1..DEPTH).rev() {
            let slot = slot(number, level);
            let parent = path[filled - 1].0;
            let Some(node) = child(parent, slot) else {
                break;
            };
            path[filled] = (node, slot);
            filled += 1;
        }
        let mut near = if filled == path.len() { near } else { 0 };
        while filled > 1 {
            let (node, slot) = path[filled - 1];
            if !is_empty(node, near) {
                return;
            }
            path[filled - 2].0.set_word(slot, 0);
            store.free(node);
            near = slot;
            filled -= 1;
        }
    }
}

/// The leaves of a run, cut to what keys can be: others are in no tree, though their low bits may
/// look like those of some that are.
fn legal(run: Run) -> impl Iterator<Item = (u64, u64, u64)> {
    let most = 1 << KEY_BITS;
    leaves(run.first.min(most), run.end().min(most))
}

/// Clears bits `first..end` of a leaf; returns how many were set.
fn clear(leaf: Frame, first: u64, end: u64) -> u64 {
    let mut cleared = 0;
    for (word, mask) in masks(first, end) {
        let old = leaf.word(word);
        cleared += u64::from((old & mask).count_ones());
        leaf.set_word(word, old & !mask);
    }
    cleared
}

fn destroy(node: Frame, level: u32, store: &mut impl NodeStore) {
    if level > 0 {
        for slot in 0..FRAME_WORDS {
            if let Some(next) = child(node, slot) {
                destroy(next, level - 1, store);
            }
        }
    }
    store.free(node);
}

/// Frees the empty nodes below `node`; returns whether it is empty itself.
fn sweep(node: Frame, level: u32, store: &mut impl NodeStore) -> bool {
    if level > 0 {
        for slot in 0..FRAME_WORDS {
            if let Some(next) = child(node, slot) {
                if sweep(next, level - 1, store) {
                    node.set_word(slot, 0);
                    store.free(next);
                }
            }
        }
    }
    is_empty(node, 0)
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_tree))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;
    use crate::kho::tree::LeafCache;
    use crate::sys::pages::BuddyNodes;

    /// Counts the nodes that are out.
    struct Counted(i64);

    impl NodeStore for Counted {
        fn alloc(&mut self) -> Option<Frame> {
            let node = BuddyNodes.alloc()?;
            self.0 += 1;
            Some(node)
        }

        fn free(&mut self, node: Frame) {
            self.0 -= 1;
            BuddyNodes.free(node);
        }
    }

    /// Fails from the n-th allocation on.
    struct Scarce(Counted, i64);

    impl NodeStore for Scarce {
        fn alloc(&mut self) -> Option<Frame> {
            if self.0 .0 >= self.1 {
                return None;
            }
            self.0.alloc()
        }

        fn free(&mut self, node: Frame) {
            self.0.free(node);
        }
    }

    fn count(tree: Tree) -> (usize, u64) {
        tree.runs(0, u64::MAX)
            .fold((0, 0), |(runs, keys), run| (runs + 1, keys + run.len))
    }

    #[test]
    fn runs_across_leaves_come_and_go() {
        let mut store = Counted(0);
        let Some(root) = store.alloc() else { return };
        let tree = Tree::at(root);
        let long = Run {
            first: (1 << 52) + 32_000,
            len: 70_000,
        };
        assert!(tree.insert(long, &mut store).is_ok());
        assert!(count(tree) == (1, 70_000));
        // Four leaves, the tables on the way, and the root.
        assert!(store.0 == 4 + 4 + 1);
        let hole = Run {
            first: (1 << 52) + 40_000,
            len: 100,
        };
        assert!(tree.remove(hole, &mut store) == 100);
        assert!(tree.remove(hole, &mut store) == 0);
        assert!(count(tree) == (2, 69_900));
        assert!(tree.remove(long, &mut store) == 69_900);
        assert!(count(tree) == (0, 0));
        assert!(store.0 == 1);
        tree.destroy(&mut store);
        assert!(store.0 == 0);
    }

    #[test]
    fn no_memory_undoes_everything() {
        for most in 1..9 {
            let mut store = Scarce(Counted(0), most);
            let Some(root) = store.alloc() else { return };
            let tree = Tree::at(root);
            let run = Run {
                first: (1 << 52) + 32_000,
                len: 70_000,
            };
            assert!(tree.insert(run, &mut store) == Err(ENOMEM));
            assert!(store.0 .0 == 1);
            assert!(count(tree) == (0, 0));
            store.1 = 100;
            assert!(tree.insert(run, &mut store).is_ok());
            tree.destroy(&mut store);
            assert!(store.0 .0 == 0);
        }
    }

    #[test]
    fn single_keys() {
        let mut store = Counted(0);
        let Some(root) = store.alloc() else { return };
        let (tree, mut cache) = (Tree::at(root), LeafCache::new());
        let keys = [1 << 52, (1 << 52) | 5, 1 << 43, (1 << 52) | 1 << 30];
        for key in keys {
            assert!(!cache.contains(tree, key));
            assert!(cache.insert(tree, key, &mut store).is_ok());
            assert!(cache.contains(tree, key));
        }
        for key in keys {
            assert!(cache.remove(tree, key, Some(&mut store)));
            assert!(!cache.remove(tree, key, Some(&mut store)));
        }
        assert!(store.0 == 1);
        tree.destroy(&mut store);
        let wide = Run {
            first: 1 << KEY_BITS,
            len: 1,
        };
        assert!(tree.insert(wide, &mut store) == Err(ERANGE));
    }
}
