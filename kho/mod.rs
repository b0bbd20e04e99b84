// SPDX-License-Identifier: GPL-2.0

//! Kexec handover: memory that lives on while one kernel replaces another.
//!
//! `Outgoing` records what this kernel preserves, `Incoming` gives out what the previous one left,
//! `boot` is the way from one to the other.

#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod adopt;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod array;
pub(crate) mod audit;
pub(crate) mod block;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod block_chain;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod block_set;
pub(crate) mod boot;
pub(crate) mod checksum;
#[cfg(any(
    all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS),
    not(kernel)
))]
pub(crate) mod corrupt;
pub(crate) mod fdt;
pub(crate) mod incoming;
pub(crate) mod kexec;
pub(crate) mod key;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod link;
pub(crate) mod merge;
pub(crate) mod metadata;
pub(crate) mod outgoing;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod page;
pub(crate) mod pages;
pub(crate) mod plan;
pub(crate) mod ram;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod root;
pub(crate) mod scratch;
pub(crate) mod scratch_args;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod slab;
pub(crate) mod state;
pub(crate) mod subtrees;
pub(crate) mod tree;
pub(crate) mod vmalloc;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod words;

pub(crate) use crate::sys::addr;
