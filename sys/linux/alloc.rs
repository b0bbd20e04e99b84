// SPDX-License-Identifier: GPL-2.0

//! Collections of the running kernel; every allocation may fail, and may sleep.

pub(crate) use kernel::alloc::KVVec;
pub(crate) use kernel::prelude::GFP_KERNEL;
pub(crate) use kernel::rbtree::{RBTree, RBTreeNodeReservation};
pub(crate) use kernel::sync::Arc;
