// SPDX-License-Identifier: GPL-2.0

//! memfds of this kernel: what C does for the handler, and the calls that come from C.

use core::ffi::c_int;

use kernel::prelude::*;

use super::{glue, handover};
use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::incoming::Incoming;
use crate::kho::outgoing::Outgoing;
use crate::luo::incoming::TRY_AGAIN;
use crate::memfd_luo::format::{seal, Refusal};
use crate::memfd_luo::preserve::{self, About};
use crate::memfd_luo::retrieve::Waiting;
use crate::memfd_luo::{Folio, Kho, Run, Sink, Source, BATCH};

/// KHO of this kernel.
struct Records;

impl Kho for Records {
    fn outgoing<T>(&mut self, f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T> {
        handover::outgoing(f)
    }

    fn incoming<T>(&mut self, f: impl FnOnce(&mut Incoming) -> Result<T>) -> Result<T> {
        handover::incoming(|incoming| Some(f(incoming))).ok_or(ENOENT)?
    }
}

/// A memfd somebody else holds open, for as long as this lives.
///
/// # Invariants
///
/// Points to an open shmem file.
struct Memfd(*mut glue::file, Batch);

/// Folios on their way to and from C.
struct Batch([glue::lu_memfd_folio; BATCH]);

impl Batch {
    const fn new() -> Self {
        const NONE: glue::lu_memfd_folio = glue::lu_memfd_folio {
            pfn: 0,
            index: 0,
            order: 0,
        };
        Self([NONE; BATCH])
    }

    fn put(&mut self, folios: &[Folio]) {
        for (to, from) in self.0.iter_mut().zip(folios) {
            (to.pfn, to.index) = (from.pfn.raw(), from.index);
        }
    }

    fn get(&self, folios: &mut [Folio]) {
        for (to, from) in folios.iter_mut().zip(&self.0) {
            *to = Folio {
                pfn: Pfn::new(from.pfn),
                index: from.index,
                // Any order of a folio is one of ours.
                order: Order::new(from.order).unwrap_or(Order::ZERO),
            };
        }
    }

    fn as_mut_ptr(&mut self) -> *mut glue::lu_memfd_folio {
        self.0.as_mut_ptr()
    }
}

impl Memfd {
    fn new(file: *mut glue::file) -> Self {
        Self(file, Batch::new())
    }

    fn about(&self) -> glue::lu_memfd_about {
        let mut about = NO_FILE;
        // SAFETY: The invariant; `about` may be written.
        unsafe { glue::lu_memfd_describe(self.0, &mut about) };
        about
    }

    fn freeze(&self) -> bool {
        // SAFETY: The invariant.
        unsafe { glue::lu_memfd_freeze(self.0) }
    }

    fn thaw(&self) {
        // SAFETY: The invariant.
        unsafe { glue::lu_memfd_thaw(self.0) }
    }
}

const NO_FILE: glue::lu_memfd_about = glue::lu_memfd_about {
    pos: 0,
    size: 0,
    seals: 0,
    mode: 0,
    writable: false,
    no_room: false,
};

/// How many of these C gets; never more than the array has.
fn count<T>(items: &[T]) -> c_uint {
    items.len().min(BATCH) as c_uint
}

impl Source for Memfd {
    fn pin(&mut self, index: u64, end: u64, into: &mut [Folio; BATCH]) -> Result<usize> {
        let most = count(into);
        // SAFETY: The invariant; the batch has room for so many.
        let nr = unsafe { glue::lu_memfd_pin(self.0, index, end, self.1.as_mut_ptr(), most) };
        let nr = usize::try_from(nr).map_err(|_| Error::from_errno(nr))?;
        self.1.get(into.get_mut(..nr).unwrap_or_default());
        Ok(nr)
    }

    fn orders(&mut self, folios: &mut [Folio]) {
        self.1.put(folios);
        // SAFETY: The folios are pinned, and listed.
        unsafe { glue::lu_memfd_orders(self.1.as_mut_ptr(), count(folios)) };
        self.1.get(folios);
    }

    fn unpin(&mut self, folios: &[Folio]) {
        self.1.put(folios);
        // SAFETY: The folios are pinned, and listed; these references are given up.
        unsafe { glue::lu_memfd_unpin(self.1.as_mut_ptr(), count(folios)) };
    }
}

/// A memfd in the making; put unless it is given away.
///
/// # Invariants
///
/// Points to an open shmem file that nobody else has.
struct NewMemfd(*mut glue::file);

impl NewMemfd {
    fn create(about: &glue::lu_memfd_about, no_exec: bool) -> Result<Self> {
        // SAFETY: `about` may be read.
        let file = unsafe { glue::lu_memfd_create(about, no_exec) };
        kernel::error::from_err_ptr(file).map(Self)
    }

    fn give_away(self) -> *mut glue::file {
        let file = self.0;
        core::mem::forget(self);
        file
    }
}

impl Drop for NewMemfd {
    fn drop(&mut self) {
        // SAFETY: The invariant; the reference is given up.
        unsafe { glue::lu_memfd_put(self.0) };
    }
}

impl Sink for NewMemfd {
    fn fill(&mut self, runs: &[Run]) -> Result {
        let mut list = [glue::lu_memfd_run {
            pfn: 0,
            index: 0,
            count: 0,
            order: 0,
            filled: false,
        }; BATCH];
        for (to, from) in list.iter_mut().zip(runs) {
            *to = glue::lu_memfd_run {
                pfn: from.pfn.raw(),
                index: from.index,
                count: from.count,
                order: from.order.raw(),
                filled: from.filled,
            };
        }
        // SAFETY: The invariant; the frames were claimed from the incoming tree in blocks of these
        // orders, and their places in the file are free and aligned: `Walk` saw to it.
        let err = unsafe { glue::lu_memfd_fill(self.0, list.as_ptr(), count(runs)) };
        kernel::error::to_result(err)
    }

    fn take_back(&mut self, folios: &mut [Folio]) {
        let mut batch = Batch::new();
        batch.put(folios);
        // SAFETY: `fill` put these folios there, and nobody else knows of the file.
        unsafe { glue::lu_memfd_take_back(self.0, batch.as_mut_ptr(), count(folios)) };
        batch.get(folios);
    }

    fn publish(&mut self, pages: u64) -> Result {
        // SAFETY: The invariant.
        kernel::error::to_result(unsafe { glue::lu_memfd_publish(self.0, pages) })
    }
}

/// Whether a file can come back as it is.
fn expressible(about: &glue::lu_memfd_about) -> Result {
    const EXECUTE: u32 = 0o111;
    if about.seals & !seal::ALL != 0 {
        return Err(EOPNOTSUPP);
    }
    // It would come back writable.
    if !about.writable && about.seals & (seal::WRITE | seal::FUTURE_WRITE) == 0 {
        return Err(EPERM);
    }
    // It would come back executable, or not.
    let executable = about.mode & EXECUTE != 0;
    if about.seals & seal::EXEC != 0 && seal::no_exec(about.seals) == executable {
        return Err(EOPNOTSUPP);
    }
    Ok(())
}

fn preserve_frozen(file: &mut Memfd) -> Result<u64> {
    let about = file.about();
    expressible(&about)?;
    if about.no_room {
        return Err(ENOMEM);
    }
    let about = About {
        pos: about.pos,
        size: about.size,
        seals: about.seals,
    };
    Ok(preserve::preserve(&mut Records, file, about)?.raw())
}

/// # Safety
///
/// `file` is an open shmem file, and `data` may be written.
#[no_mangle]
unsafe extern "C" fn lu_memfd_preserve(file: *mut glue::file, data: *mut u64) -> c_int {
    // INVARIANT: By the caller's promise.
    let mut file = Memfd::new(file);
    if !file.freeze() {
        // Whoever froze it thaws it.
        return EBUSY.to_errno();
    }
    match preserve_frozen(&mut file) {
        Ok(at) => {
            // SAFETY: By the caller's promise.
            unsafe { data.write(at) };
            0
        }
        Err(err) => {
            file.thaw();
            err.to_errno()
        }
    }
}

/// # Safety
///
/// `file` is an open shmem file that [`lu_memfd_preserve`] preserved as `data`.
#[no_mangle]
unsafe extern "C" fn lu_memfd_unpreserve(file: *mut glue::file, data: u64) {
    // INVARIANT: By the caller's promise.
    let mut file = Memfd::new(file);
    preserve::unpreserve(&mut Records, &mut file, PhysAddr::new(data));
    file.thaw();
}

/// # Safety
///
/// As for [`lu_memfd_unpreserve`].
#[no_mangle]
unsafe extern "C" fn lu_memfd_update(file: *mut glue::file, data: u64) -> c_int {
    // INVARIANT: By the caller's promise.
    let about = Memfd::new(file).about();
    let done = expressible(&about)
        .and_then(|()| preserve::freeze(PhysAddr::new(data), about.pos, about.seals));
    kernel::error::from_result(|| done.map(|()| 0))
}

fn retrieve(at: PhysAddr) -> Result<NewMemfd, Refusal> {
    let waiting = Waiting::claim(&mut Records, at)?;
    let header = waiting.header();
    let about = glue::lu_memfd_about {
        pos: header.pos,
        size: header.size,
        seals: header.seals,
        ..NO_FILE
    };
    let mut file = match NewMemfd::create(&about, seal::no_exec(about.seals)) {
        Ok(file) => file,
        Err(err) => {
            waiting.put_back(&mut Records);
            return Err(err.into());
        }
    };
    // SAFETY: No preconditions.
    let most = Order::new(unsafe { glue::lu_memfd_max_order() }).unwrap_or(Order::ZERO);
    waiting.retrieve(&mut Records, &mut file, most)?;
    Ok(file)
}

fn refused(what: &str, at: PhysAddr, refusal: Refusal) {
    pr_err!(
        "cannot {what} the memfd recorded at {:#x}: {} ({:?})\n",
        at.raw(),
        refusal.why,
        refusal.error
    );
}

/// # Safety
///
/// `file` may be written; `data` is not trusted.
#[no_mangle]
unsafe extern "C" fn lu_memfd_retrieve(data: u64, file: *mut *mut glue::file) -> c_int {
    let at = PhysAddr::new(data);
    match retrieve(at) {
        Ok(new) => {
            // SAFETY: By the caller's promise.
            unsafe { file.write(new.give_away()) };
            0
        }
        Err(refusal) => {
            refused("retrieve", at, refusal);
            match refusal.error {
                // All waits again.
                ENOMEM | EINTR => TRY_AGAIN.to_errno(),
                error => error.to_errno(),
            }
        }
    }
}

/// `data` is not trusted.
#[no_mangle]
extern "C" fn lu_memfd_discard(data: u64) {
    let at = PhysAddr::new(data);
    let done = Waiting::claim(&mut Records, at).and_then(|file| file.discard(&mut Records));
    if let Err(refusal) = done {
        refused("give back", at, refusal);
    }
}
