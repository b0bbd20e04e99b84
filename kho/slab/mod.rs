// SPDX-License-Identifier: GPL-2.0

//! Preserved slab caches: objects of one size in pages that are preserved from the moment they are
//! allocated.
//!
//! The state of each page is in an index, which is in preserved pages too: where it is, and one bit
//! an object. Every change is one word, so the index is right whenever a kernel stops, and there is
//! nothing to write down before a kexec. The next kernel attaches the cache: it checks the index
//! without reading the objects, takes over all pages, and goes on where this one was. Objects stay
//! where they are.
//!
//! [`shape`] is what a cache of some type looks like, and its format; [`index`] reads and writes a
//! page of the index; [`shard`] is such a page with its lock, and what a CPU allocates from;
//! [`table`] finds shards; [`cache`] allocates and frees; [`attach`] takes over what was handed
//! over.

mod attach;
pub(crate) mod cache;
mod index;
pub(crate) mod shape;
mod shard;
mod spot;
mod table;

#[cfg(kernel)]
pub(crate) use shard::Object;

#[cfg(test)]
pub(crate) use index::seal;
