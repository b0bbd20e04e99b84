// SPDX-License-Identifier: GPL-2.0

//! Records of structs, each in a preserved page of its own: written before the kexec, claimed after
//! it.

use core::marker::PhantomData;

use zerocopy::{FromZeros, IntoBytes};

use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::incoming::Incoming;
use crate::kho::outgoing::Outgoing;
use crate::kho::tree::NodeStore;
use crate::sys::error::{Error, Result, EINVAL, ENOENT, ENOMEM, EOPNOTSUPP, EPROTONOSUPPORT};
use crate::sys::pages::{free_waiting, BuddyNodes};
use crate::sys::record::{Fault, Handover};
use crate::sys::Frame;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Version => EPROTONOSUPPORT,
            Fault::Unsaid(_) => EOPNOTSUPP,
            Fault::Length | Fault::Layout | Fault::Value(_) => EINVAL,
        }
    }
}

/// A record of this kernel's own, for the next one.
pub(crate) struct Kept<T>(Frame, PhantomData<fn() -> T>);

impl<T: Handover> Kept<T> {
    /// Preserves `value` in a page of its own, as `version`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], and those of [`Handover::encode`]; nothing is preserved then.
    pub(crate) fn new(out: &mut Outgoing, value: &T, version: u32) -> Result<Self> {
        let bytes = value.encode(version)?;
        let page = BuddyNodes.alloc().ok_or(ENOMEM)?;
        for (index, word) in words(bytes.as_bytes()).enumerate() {
            page.set_word(index, word);
        }
        out.preserve_block(page.phys().pfn(), Order::ZERO)
            .inspect_err(|_| BuddyNodes.free(page))?;
        Ok(Self(page, PhantomData))
    }

    /// The record that [`Self::new`] made at this address.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if that is no memory.
    pub(crate) fn at(at: PhysAddr) -> Result<Self> {
        Frame::at(at)
            .map(|page| Self(page, PhantomData))
            .ok_or(EINVAL)
    }

    /// Where it is.
    pub(crate) fn phys(&self) -> PhysAddr {
        self.0.phys()
    }

    /// Changes the value. Words that `change` leaves alone are not written: somebody else may.
    ///
    /// # Errors
    ///
    /// Those of [`Handover::encode`].
    pub(crate) fn change(&self, version: u32, change: impl FnOnce(&mut T)) -> Result {
        let before = load::<T>(self.0);
        let mut value = T::decode_version(version, before.as_bytes())?;
        change(&mut value);
        let after = value.encode(version)?;
        let both = words(before.as_bytes()).zip(words(after.as_bytes()));
        for (index, (before, after)) in both.enumerate() {
            if before != after {
                self.0.set_word(index, after);
            }
        }
        Ok(())
    }

    /// Undoes [`Self::new`].
    pub(crate) fn give_up(self, out: &mut Outgoing) {
        out.unpreserve_block(self.0.phys().pfn(), Order::ZERO);
        BuddyNodes.free(self.0);
    }
}

/// A record from the previous kernel: its page is claimed.
pub(crate) struct Claimed<T> {
    pub(crate) value: T,
    block: (Pfn, Order),
}

impl<T: Handover> Claimed<T> {
    /// Claims the record at an address that the previous kernel said, which must be of `version`.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] if nothing is preserved there, or somebody has it; what [`Handover::decode`] says
    /// of the bytes. Nothing is claimed then.
    pub(crate) fn new(incoming: &mut Incoming, at: PhysAddr, version: u32) -> Result<Self> {
        let page = Frame::at(at).ok_or(ENOENT)?;
        let pfn = at.pfn();
        let order = incoming.block_at(pfn).ok_or(ENOENT)?;
        incoming.hold();
        // Claimed first and read after: nobody else can have it meanwhile.
        let claimed = incoming.claim_prefix(pfn, order, 1) == 1;
        let value = match claimed {
            true => T::decode_version(version, load::<T>(page).as_bytes()).map_err(Error::from),
            false => Err(ENOENT),
        };
        match value {
            Ok(value) => Ok(Self {
                value,
                block: (pfn, order),
            }),
            Err(err) => {
                if claimed {
                    incoming.unclaim_run(pfn, order, 1)?;
                }
                incoming.release();
                Err(err)
            }
        }
    }

    /// Undoes [`Self::new`]: the record waits again.
    pub(crate) fn put_back(self, incoming: &mut Incoming) {
        let (pfn, order) = self.block;
        // The nodes are there, since we hold: this cannot fail.
        let _ = incoming.unclaim_run(pfn, order, 1);
        incoming.release();
    }

    /// Gives the page to the page allocator: the value is somebody's now.
    pub(crate) fn free(self, incoming: &mut Incoming) {
        let (pfn, order) = self.block;
        incoming.release();
        free_waiting(PageRange::new(pfn, order.pages()));
    }
}

/// Bytes as they are, in words; the last one filled up with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        u64::from_ne_bytes(word)
    })
}

/// The bytes of a record in a page.
fn load<T: Handover>(page: Frame) -> T::Bytes {
    let mut bytes = T::Bytes::new_zeroed();
    for (index, chunk) in bytes.as_mut_bytes().chunks_mut(8).enumerate() {
        let word = page.word(index).to_ne_bytes();
        for (to, from) in chunk.iter_mut().zip(word) {
            *to = from;
        }
    }
    bytes
}
