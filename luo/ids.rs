// SPDX-License-Identifier: GPL-2.0

//! The identities of preserved files: a file has one owner, whichever descriptor and session it
//! comes by.

use super::ioctl::Side;
use crate::sys::alloc::{Arc, RBTree, RBTreeNodeReservation, GFP_KERNEL};
use crate::sys::error::{Result, EBUSY};
use crate::sys::lock::{locked, Locked};

/// Identities, as handlers tell them, of all files that are preserved, or retrieved and not
/// finished.
pub(crate) struct Ids(Locked<RBTree<u64, Side>>);

impl Ids {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self(locked!(RBTree::new(), "luo_ids")?),
            GFP_KERNEL,
        )?)
    }

    /// Whether a file is preserved for the next kernel.
    pub(crate) fn is_outgoing(&self, id: u64) -> bool {
        self.0.lock().get(&id) == Some(&Side::Outgoing)
    }
}

/// Memory for a claim, allocated before the identity is known, when failure is still possible.
pub(crate) struct Room(RBTreeNodeReservation<u64, Side>);

impl Room {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL)?))
    }
}

/// The right to be the owner of a file, given up when dropped.
pub(crate) struct Claim {
    ids: Arc<Ids>,
    id: u64,
}

impl Claim {
    /// # Errors
    ///
    /// [`EBUSY`] if the file has an owner.
    pub(crate) fn new(ids: &Arc<Ids>, room: Room, id: u64, side: Side) -> Result<Self> {
        let mut taken = ids.0.lock();
        if taken.get(&id).is_some() {
            return Err(EBUSY);
        }
        taken.insert(room.0.into_node(id, side));
        let ids = ids.clone();
        Ok(Self { ids, id })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ids.0.lock().remove(&self.id);
    }
}
