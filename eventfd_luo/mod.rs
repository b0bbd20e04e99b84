// SPDX-License-Identifier: GPL-2.0

//! eventfds that live through an update: a file handler of LUO's, "eventfd-v1".
//!
//! An eventfd is a count and two flags. From its preservation on, each change of the count changes
//! it in its record as well, under the eventfd's own lock: programs and the kernel go on signalling
//! until the machine jumps, and nothing of it is lost, nor has anything to be refused.
//!
//! The running kernel's eventfd is reached through [`EventFd`] only.

use crate::kho::addr::PhysAddr;
use crate::luo::memory::Kho;
use crate::luo::records::{Claimed, Kept};
use crate::sys::error::{Result, EBUSY};
use crate::sys::log;
use crate::sys::record::{layout, Handover, HEADER};
use crate::sys::{declare::Declared, declare_format, handover_struct};

handover_struct! {
    /// The record of an eventfd.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Record("eventfd") version 1 layouts [0x92e57fd2] {
        /// What read(2) takes from.
        pub(crate) count: u64,
        /// EFD_SEMAPHORE: read(2) takes one at a time.
        pub(crate) semaphore: bool,
        /// O_NONBLOCK.
        pub(crate) nonblocking: bool,
    }
}

/// The version that is written.
const VERSION: u32 = 1;

declare_format! {
    /// The format of an eventfd's record.
    FORMAT = Declared::new(
        <Record as Handover>::NAME,
        VERSION,
        "rw",
        layout(<Record as Handover>::FIELDS, VERSION),
    );
}

#[cfg(kernel)]
crate::sys::declare_fields!(Record, VERSION);

/// Where in the record the count is: a word of its own, which C writes.
const COUNT: u64 = {
    let count = &<Record as Handover>::FIELDS[0];
    assert!(count.offset == HEADER && count.offset % 8 == 0 && count.size == 8);
    HEADER as u64
};

/// An eventfd of this kernel.
pub(crate) trait EventFd {
    /// Whether each read takes one.
    fn semaphore(&self) -> bool;

    /// Whether its reads and writes do not wait.
    fn nonblocking(&self) -> bool;

    /// Whether something in this kernel takes the count as it is signalled, as an irqfd does.
    fn attached(&self) -> bool;

    /// Writes the count to this address, little-endian, and whenever it changes from now on.
    ///
    /// # Errors
    ///
    /// `EBUSY` if that is done for somebody already.
    fn keep(&self, count: PhysAddr) -> Result;

    /// Ends [`Self::keep`].
    fn unkeep(&self);
}

/// Preserves an eventfd. Returns the page of its record.
///
/// # Errors
///
/// `ENOMEM`, [`EBUSY`]; nothing is preserved then.
pub(crate) fn preserve(kho: &mut impl Kho, file: &impl EventFd) -> Result<PhysAddr> {
    detached(file)?;
    let record = Record {
        count: 0,
        semaphore: file.semaphore(),
        nonblocking: file.nonblocking(),
    };
    let kept = kho.outgoing(|out| Kept::new(out, &record, VERSION))?;
    let at = kept.phys();
    match file.keep(PhysAddr::new(at.raw() + COUNT)) {
        Ok(()) => Ok(at),
        Err(err) => {
            // Nothing to be done about it when there is no record at all.
            let _ = kho.outgoing(|out| {
                kept.give_up(out);
                Ok(())
            });
            Err(err)
        }
    }
}

/// Looks that nothing takes the count of an eventfd: it would go with the virtual machine that is
/// left behind, and what was signalled since that was saved would be lost.
///
/// # Errors
///
/// [`EBUSY`] if something does.
fn detached(file: &impl EventFd) -> Result {
    if file.attached() {
        log::pr_err!("eventfd: something in this kernel takes what is signalled (an irqfd): it has to be detached before the eventfd is handed over\n");
        return Err(EBUSY);
    }
    Ok(())
}

/// Brings up to date what fcntl(2) may have changed. The count is, at any time.
///
/// # Errors
///
/// [`EBUSY`] if something has been attached to it since, for what [`preserve`] returned.
pub(crate) fn freeze(file: &impl EventFd, at: PhysAddr) -> Result {
    detached(file)?;
    let nonblocking = file.nonblocking();
    Kept::<Record>::at(at)?.change(VERSION, |record| record.nonblocking = nonblocking)
}

/// Undoes [`preserve`].
pub(crate) fn unpreserve(kho: &mut impl Kho, file: &impl EventFd, at: PhysAddr) {
    file.unkeep();
    let _ = kho.outgoing(|out| {
        Kept::<Record>::at(at)?.give_up(out);
        Ok(())
    });
}

/// Has an eventfd made of what the previous kernel left at an address.
///
/// # Errors
///
/// `ENOENT` if nothing is preserved there or it is taken, `EINVAL` or `EPROTONOSUPPORT` for bytes
/// that are no record, and what `make` says. All waits as before then.
pub(crate) fn retrieve<F>(
    kho: &mut impl Kho,
    at: PhysAddr,
    make: impl FnOnce(&Record) -> Result<F>,
) -> Result<F> {
    let claimed = kho.incoming(|incoming| Claimed::<Record>::new(incoming, at, VERSION))?;
    let made = make(&claimed.value);
    kho.incoming(|incoming| {
        match made {
            Ok(_) => claimed.free(incoming),
            Err(_) => claimed.put_back(incoming),
        }
        Ok(())
    })?;
    made
}

/// Gives back what the previous kernel left at an address: nobody asked for it.
///
/// # Errors
///
/// Those of [`retrieve`]. What is no record of an eventfd is somebody else's, and stays.
pub(crate) fn discard(kho: &mut impl Kho, at: PhysAddr) -> Result {
    retrieve(kho, at, |_| Ok(()))
}
