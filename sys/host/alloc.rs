// SPDX-License-Identifier: GPL-2.0

//! The kernel crate's collections as far as this project uses them, on an allocator that fails on
//! demand: each allocation counts as one of the simulated machine's.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::machine::with;

/// How to allocate; here there is one way.
#[derive(Clone, Copy)]
pub(crate) struct Flags;

pub(crate) const GFP_KERNEL: Flags = Flags;

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AllocError;

/// Asks the machine whether an allocation that is made now succeeds.
pub(super) fn ask() -> Result<(), AllocError> {
    match with(|m| m.fails(1)) {
        true => Err(AllocError),
        false => Ok(()),
    }
}

/// A vector that grows only when asked to, or when it must.
#[derive(Debug)]
pub(crate) struct KVVec<T>(Vec<T>);

impl<T> KVVec<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut made = Self::new();
        made.reserve(capacity, flags)?;
        Ok(made)
    }

    pub(crate) fn reserve(&mut self, additional: usize, _: Flags) -> Result<(), AllocError> {
        if self.0.capacity() - self.0.len() < additional {
            ask()?;
            self.0.reserve(additional);
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(value);
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    pub(crate) fn remove(&mut self, index: usize) -> Result<T, ()> {
        match index < self.0.len() {
            true => Ok(self.0.remove(index)),
            false => Err(()),
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(keep);
    }
}

impl<T> Deref for KVVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// A reference-counted value.
#[derive(Debug)]
pub(crate) struct Arc<T>(std::sync::Arc<T>);

impl<T> Arc<T> {
    pub(crate) fn new(value: T, _: Flags) -> Result<Self, AllocError> {
        ask()?;
        Ok(Self(std::sync::Arc::new(value)))
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A sorted map.
#[derive(Debug)]
pub(crate) struct RBTree<K, V>(BTreeMap<K, V>);

impl<K: Ord, V> RBTree<K, V> {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(crate) fn try_create_and_insert(
        &mut self,
        key: K,
        value: V,
        _: Flags,
    ) -> Result<Option<V>, AllocError> {
        ask()?;
        Ok(self.0.insert(key, value))
    }

    /// Returns the node that it takes the place of.
    pub(crate) fn insert(&mut self, node: RBTreeNode<K, V>) -> Option<RBTreeNode<K, V>> {
        let old = self.0.remove_entry(&node.0);
        self.0.insert(node.0, node.1);
        old.map(|(key, value)| RBTreeNode(key, value))
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    /// At the first key that is not less.
    pub(crate) fn cursor_lower_bound(&self, key: &K) -> Option<Cursor<'_, K, V>> {
        let current = self.0.range(key..).next()?;
        Some(Cursor {
            tree: &self.0,
            current,
        })
    }
}

/// Memory for a node of a [`RBTree`].
pub(crate) struct RBTreeNodeReservation<K, V>(PhantomData<(K, V)>);

impl<K, V> RBTreeNodeReservation<K, V> {
    pub(crate) fn new(_: Flags) -> Result<Self, AllocError> {
        ask()?;
        Ok(Self(PhantomData))
    }

    pub(crate) fn into_node(self, key: K, value: V) -> RBTreeNode<K, V> {
        RBTreeNode(key, value)
    }
}

/// A node that is in no tree.
pub(crate) struct RBTreeNode<K, V>(K, V);

/// A place in a [`RBTree`].
pub(crate) struct Cursor<'a, K, V> {
    tree: &'a BTreeMap<K, V>,
    current: (&'a K, &'a V),
}

impl<'a, K: Ord, V> Cursor<'a, K, V> {
    pub(crate) fn current(&self) -> (&'a K, &'a V) {
        self.current
    }

    pub(crate) fn peek_prev(&self) -> Option<(&'a K, &'a V)> {
        self.tree.range(..self.current.0).next_back()
    }
}
