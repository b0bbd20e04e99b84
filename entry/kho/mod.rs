// SPDX-License-Identifier: GPL-2.0

//! The C face of KHO: the boot, the API of include/linux/kexec_handover.h and its kin, and debugfs.

#[cfg(CONFIG_LIVEUPDATE)]
mod array;
mod block;
mod boot;
#[cfg(CONFIG_KEXEC_HANDOVER_DEBUGFS)]
pub(crate) mod debugfs;
mod preserve;
mod radix;
mod restore;
#[cfg(CONFIG_LIVEUPDATE)]
mod slab;
mod subtree;
mod vmalloc;
