// SPDX-License-Identifier: GPL-2.0

//! memfds of this kernel: what C does for the handler, and the calls that come from C.

use core::ffi::c_int;

use kernel::prelude::*;

use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::luo::incoming::TRY_AGAIN;
use crate::luo::memory::Records;
use crate::memfd_luo::extents::{Name, NAME};
use crate::memfd_luo::format::{seal, Refusal};
use crate::memfd_luo::restore::Sparse;
use crate::memfd_luo::retrieve::Waiting;
use crate::memfd_luo::{convert, preserve, sparse, Folio, Run, Sink, Source, BATCH, RUNS};
use crate::sys::glue;

/// A memfd somebody else holds open, for as long as this lives.
///
/// # Invariants
///
/// Points to an open shmem file.
struct Memfd<'a>(*mut glue::file, &'a mut Batch);

/// Folios on their way to and from C. Never moved: that would be another one on the stack.
type Batch = [glue::lu_memfd_folio; BATCH];

const NO_FOLIO: glue::lu_memfd_folio = glue::lu_memfd_folio {
    pfn: 0,
    index: 0,
    order: 0,
};

fn put(batch: &mut Batch, folios: &[Folio]) {
    for (to, from) in batch.iter_mut().zip(folios) {
        (to.pfn, to.index) = (from.pfn.raw(), from.index);
    }
}

fn get(batch: &Batch, folios: &mut [Folio]) {
    for (to, from) in folios.iter_mut().zip(batch) {
        *to = Folio {
            pfn: Pfn::new(from.pfn),
            index: from.index,
            // Any order of a folio is one of ours.
            order: Order::new(from.order).unwrap_or(Order::ZERO),
        };
    }
}

impl Memfd<'_> {
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
    name_len: 0,
    name: [0; 256],
};

/// Permissions, in a mode.
const PERMISSIONS: u32 = 0o7777;
const EXECUTE: u32 = 0o111;

/// What memfd_create(2) gives a file that may be executed.
const DEFAULT: u32 = 0o777;

/// How many of these C gets; never more than the array has.
fn count<const MOST: usize, T>(items: &[T]) -> c_uint {
    items.len().min(MOST) as c_uint
}

impl Source for Memfd<'_> {
    fn pin(&mut self, index: u64, end: u64, into: &mut [Folio; BATCH]) -> Result<usize> {
        let most = count::<BATCH, _>(into);
        // SAFETY: The invariant; the batch has room for so many.
        let nr = unsafe { glue::lu_memfd_pin(self.0, index, end, self.1.as_mut_ptr(), most) };
        let nr = usize::try_from(nr).map_err(|_| Error::from_errno(nr))?;
        get(self.1, into.get_mut(..nr).unwrap_or_default());
        Ok(nr)
    }

    fn pin_present(
        &mut self,
        index: &mut u64,
        end: u64,
        into: &mut [Folio; BATCH],
    ) -> Result<usize> {
        let most = count::<BATCH, _>(into);
        let batch = self.1.as_mut_ptr();
        // SAFETY: The invariant; the batch has room for so many, and `index` may be written.
        let nr = unsafe { glue::lu_memfd_pin_present(self.0, index, end, batch, most) };
        let nr = usize::try_from(nr).map_err(|_| Error::from_errno(nr))?;
        get(self.1, into.get_mut(..nr).unwrap_or_default());
        Ok(nr)
    }

    fn in_memory(&mut self) -> u64 {
        // SAFETY: The invariant.
        unsafe { glue::lu_memfd_in_memory(self.0) }
    }

    fn swapped(&mut self) -> u64 {
        // SAFETY: The invariant.
        unsafe { glue::lu_memfd_swapped(self.0) }
    }

    fn charged(&mut self) -> u64 {
        // SAFETY: The invariant.
        unsafe { glue::lu_memfd_charged(self.0) }
    }

    fn any_bad(&mut self, run: &Run) -> bool {
        // SAFETY: Its folios are pinned, so they have struct pages.
        unsafe { glue::lu_any_poisoned(run.pfn.raw(), run.pages()) }
    }

    fn unpin_run(&mut self, run: &Run) {
        // SAFETY: The folios are pinned; these references are given up.
        unsafe { glue::lu_memfd_unpin_run(run.pfn.raw(), run.count, run.order.raw()) };
    }

    fn orders(&mut self, folios: &mut [Folio]) {
        put(self.1, folios);
        // SAFETY: The folios are pinned, and listed.
        unsafe { glue::lu_memfd_orders(self.1.as_mut_ptr(), count::<BATCH, _>(folios)) };
        get(self.1, folios);
    }

    fn unpin(&mut self, folios: &[Folio]) {
        put(self.1, folios);
        // SAFETY: The folios are pinned, and listed; these references are given up.
        unsafe { glue::lu_memfd_unpin(self.1.as_mut_ptr(), count::<BATCH, _>(folios)) };
    }
}

/// A memfd that is being filled; put unless it is given away.
///
/// # Invariants
///
/// Points to an open shmem file that nobody else has.
struct NewMemfd {
    file: *mut glue::file,
    /// Pages that are in it.
    pages: u64,
    /// Pages that will be in it, at most.
    expected: u64,
    /// Pages that are accounted for and not in it yet, once what is in it may go to swap.
    to_come: Option<u64>,
}

impl NewMemfd {
    fn create(about: &glue::lu_memfd_about) -> Result<Self> {
        // SAFETY: `about` may be read.
        let file = unsafe { glue::lu_memfd_create(about) };
        // INVARIANT: It is new.
        kernel::error::from_err_ptr(file).map(|file| Self {
            file,
            pages: 0,
            expected: 0,
            to_come: None,
        })
    }

    fn give_away(self) -> *mut glue::file {
        let file = self.file;
        core::mem::forget(self);
        file
    }
}

impl Drop for NewMemfd {
    fn drop(&mut self) {
        // SAFETY: The invariant; the reference is given up.
        unsafe { glue::lu_memfd_put(self.file) };
    }
}

impl NewMemfd {
    /// Fills some in. Once the file is shared, these are as well, and want of memory is no reason
    /// to fail.
    fn fill_some(&mut self, list: &[glue::lu_memfd_run], nr: c_uint) -> Result {
        let shared = self.to_come.is_some();
        // SAFETY: The invariant; the frames were claimed from the incoming tree in blocks of these
        // orders, and their places in the file are free and aligned: `Walk` saw to it.
        kernel::error::to_result(unsafe {
            glue::lu_memfd_fill(self.file, list.as_ptr(), nr, shared)
        })
    }

    /// Lets what is in the file go to swap, as the rest has no room beside it.
    fn share(&mut self) -> Result {
        // SAFETY: The invariant.
        kernel::error::to_result(unsafe {
            glue::lu_memfd_share(self.file, self.pages, self.expected)
        })?;
        self.to_come = Some(self.expected.saturating_sub(self.pages));
        Ok(())
    }
}

impl Sink for NewMemfd {
    fn expect(&mut self, pages: u64) {
        self.expected = pages;
    }

    fn is_shared(&self) -> bool {
        self.to_come.is_some()
    }

    #[inline(never)]
    fn fill(&mut self, runs: &[Run]) -> Result {
        let mut list = [glue::lu_memfd_run {
            pfn: 0,
            index: 0,
            count: 0,
            order: 0,
            filled: false,
        }; RUNS];
        for (to, from) in list.iter_mut().zip(runs) {
            *to = glue::lu_memfd_run {
                pfn: from.pfn.raw(),
                index: from.index,
                count: from.count,
                order: from.order.raw(),
                filled: from.filled,
            };
        }
        let nr = count::<RUNS, _>(runs);
        match self.fill_some(&list, nr) {
            // What C says when the cgroup is at its limit.
            Err(EDQUOT) => self.share().and_then(|()| self.fill_some(&list, nr))?,
            done => done?,
        }
        let pages = runs.iter().map(Run::pages).sum();
        self.pages += pages;
        self.to_come = self.to_come.map(|left| left.saturating_sub(pages));
        Ok(())
    }

    #[inline(never)]
    fn take_back(&mut self, folios: &mut [Folio]) {
        let mut batch = [NO_FOLIO; BATCH];
        put(&mut batch, folios);
        // SAFETY: `fill` put these folios there, and nobody else knows of the file.
        unsafe {
            glue::lu_memfd_take_back(self.file, batch.as_mut_ptr(), count::<BATCH, _>(folios))
        };
        get(&batch, folios);
    }

    fn zones(&self) -> fn(u64) -> u32 {
        |pfn| {
            // SAFETY: Frames that were preserved have struct pages.
            unsafe { glue::lu_memfd_zone(pfn) }
        }
    }

    fn publish(&mut self, pages: u64) -> Result {
        if let Some(left) = self.to_come {
            // SAFETY: The invariant; so many pages are accounted for, and not in it.
            unsafe { glue::lu_memfd_come_out(self.file, left) };
            return Ok(());
        }
        // SAFETY: The invariant.
        kernel::error::to_result(unsafe { glue::lu_memfd_publish(self.file, pages) })
    }
}

/// A version of the format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Mainline's: a record a folio, no holes.
    Two,
    /// Extents, holes, mode and name.
    Three,
}

impl Version {
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] for any other.
    fn of(number: u32) -> Result<Self> {
        match number {
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            _ => Err(EOPNOTSUPP),
        }
    }

    /// Whether a file can come back as it is.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`], [`EPERM`] for a descriptor that may not write.
    fn expresses(self, about: &glue::lu_memfd_about) -> Result {
        if about.seals & !seal::ALL != 0 {
            return Err(EOPNOTSUPP);
        }
        // It would come back writable.
        if !about.writable && about.seals & (seal::WRITE | seal::FUTURE_WRITE) == 0 {
            return Err(EPERM);
        }
        // It would come back executable, or not.
        let executable = about.mode & EXECUTE != 0;
        let tells = about.seals & seal::EXEC == 0 || seal::no_exec(about.seals) != executable;
        match self {
            Self::Two if !tells => Err(EOPNOTSUPP),
            _ => Ok(()),
        }
    }
}

/// What version 2 records of a file.
fn dense(about: &glue::lu_memfd_about) -> preserve::About {
    preserve::About {
        pos: about.pos,
        size: about.size,
        seals: about.seals,
    }
}

/// What version 3 records of a file.
fn about_of(about: &glue::lu_memfd_about) -> sparse::About {
    let len = usize::try_from(about.name_len).unwrap_or(0).min(NAME);
    sparse::About {
        size: about.size,
        pos: about.pos,
        seals: about.seals,
        mode: about.mode & PERMISSIONS,
        name: Name::new(about.name.get(..len).unwrap_or_default()),
    }
}

#[inline(never)]
fn preserve_frozen(file: &mut Memfd<'_>, version: Version) -> Result<u64> {
    let about = file.about();
    version.expresses(&about)?;
    let at = match version {
        Version::Two if about.no_room => return Err(ENOMEM),
        Version::Two => preserve::preserve(&mut Records, file, dense(&about))?,
        Version::Three => sparse::preserve(&mut Records, file, &about_of(&about))?,
    };
    Ok(at.raw())
}

/// # Safety
///
/// `file` is an open shmem file, and `data` may be written.
#[no_mangle]
unsafe extern "C" fn lu_memfd_preserve(
    file: *mut glue::file,
    version: u32,
    data: *mut u64,
) -> c_int {
    let mut batch = [NO_FOLIO; BATCH];
    // INVARIANT: By the caller's promise.
    let mut file = Memfd(file, &mut batch);
    if !file.freeze() {
        // Whoever froze it thaws it.
        return EBUSY.to_errno();
    }
    match Version::of(version).and_then(|version| preserve_frozen(&mut file, version)) {
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
/// `file` is an open shmem file that [`lu_memfd_preserve`] preserved as `data`, or that was
/// converted to this version since.
#[no_mangle]
unsafe extern "C" fn lu_memfd_unpreserve(file: *mut glue::file, version: u32, data: u64) {
    let mut batch = [NO_FOLIO; BATCH];
    // INVARIANT: By the caller's promise.
    let mut file = Memfd(file, &mut batch);
    let at = PhysAddr::new(data);
    match Version::of(version) {
        Ok(Version::Two) => preserve::unpreserve(&mut Records, &mut file, at),
        Ok(Version::Three) => sparse::unpreserve(&mut Records, &mut file, at),
        Err(_) => return,
    }
    file.thaw();
}

/// Brings up to date what is recorded of a file; also looks whether its memory is good, if there
/// may be bad memory that was not known of when it was preserved.
///
/// # Safety
///
/// As for [`lu_memfd_unpreserve`].
#[no_mangle]
unsafe extern "C" fn lu_memfd_update(
    file: *mut glue::file,
    version: u32,
    data: u64,
    maybe_bad: bool,
) -> c_int {
    let mut batch = [NO_FOLIO; BATCH];
    // INVARIANT: By the caller's promise.
    let mut file = Memfd(file, &mut batch);
    let at = PhysAddr::new(data);
    let done = Version::of(version).and_then(|version| {
        update(&mut file, version, at)?;
        match version {
            _ if !maybe_bad => Ok(()),
            Version::Two => preserve::judge(&mut file, at),
            Version::Three => sparse::judge(&mut file, at),
        }
    });
    kernel::error::from_result(|| done.map(|()| 0))
}

#[inline(never)]
fn update(file: &mut Memfd<'_>, version: Version, at: PhysAddr) -> Result {
    let about = file.about();
    version.expresses(&about)?;
    match version {
        Version::Two => preserve::freeze(at, about.pos, about.seals),
        Version::Three => sparse::freeze(&mut Records, file, at, &about_of(&about)),
    }
}

/// Writes a preserved file in the other version.
///
/// # Safety
///
/// As for [`lu_memfd_unpreserve`]; the file is in the other version than `to`.
#[no_mangle]
unsafe extern "C" fn lu_memfd_convert(file: *mut glue::file, to: u32, data: u64) -> c_int {
    let mut batch = [NO_FOLIO; BATCH];
    // INVARIANT: By the caller's promise.
    let mut file = Memfd(file, &mut batch);
    let done = Version::of(to).and_then(|to| convert(&mut file, to, PhysAddr::new(data)));
    kernel::error::from_result(|| done.map(|()| 0))
}

#[inline(never)]
fn convert(file: &mut Memfd<'_>, to: Version, at: PhysAddr) -> Result {
    let about = file.about();
    to.expresses(&about)?;
    match to {
        Version::Two if about.no_room => Err(ENOMEM),
        Version::Two => convert::to_records(&mut Records, file, at),
        Version::Three => convert::to_extents(&mut Records, file, at, &about_of(&about)),
    }
}

fn max_order() -> Order {
    // SAFETY: No preconditions.
    Order::new(unsafe { glue::lu_memfd_max_order() }).unwrap_or(Order::ZERO)
}

/// The largest folio that neighbours are joined to.
fn merge_order() -> Option<Order> {
    // SAFETY: No preconditions.
    let order = unsafe { glue::lu_memfd_merge_order() };
    Order::new(order).filter(|_| order > 0)
}

#[inline(never)]
fn retrieve_dense(at: PhysAddr) -> Result<NewMemfd, Refusal> {
    let waiting = Waiting::claim(&mut Records, at)?;
    let header = waiting.header();
    let hidden = if seal::no_exec(header.seals) {
        EXECUTE
    } else {
        0
    };
    let about = glue::lu_memfd_about {
        pos: header.pos,
        size: header.size,
        seals: header.seals,
        mode: DEFAULT & !hidden,
        ..NO_FILE
    };
    let mut file = match NewMemfd::create(&about) {
        Ok(file) => file,
        Err(err) => {
            waiting.put_back(&mut Records);
            return Err(err.into());
        }
    };
    waiting.retrieve(&mut Records, &mut file, max_order())?;
    Ok(file)
}

#[inline(never)]
fn retrieve_sparse(at: PhysAddr) -> Result<NewMemfd, Refusal> {
    let waiting = Sparse::claim(&mut Records, at)?;
    let header = waiting.header();
    let mut about = glue::lu_memfd_about {
        pos: header.pos,
        size: header.size,
        seals: header.seals,
        mode: header.mode,
        ..NO_FILE
    };
    for (to, from) in about.name.iter_mut().zip(header.name.bytes()) {
        *to = from;
        about.name_len += 1;
    }
    let mut file = match NewMemfd::create(&about) {
        Ok(file) => file,
        Err(err) => {
            waiting.put_back(&mut Records);
            return Err(err.into());
        }
    };
    waiting.retrieve(&mut Records, &mut file, merge_order(), max_order())?;
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
unsafe extern "C" fn lu_memfd_retrieve(
    version: u32,
    data: u64,
    file: *mut *mut glue::file,
) -> c_int {
    let at = PhysAddr::new(data);
    let retrieved = match Version::of(version) {
        Ok(Version::Two) => retrieve_dense(at),
        Ok(Version::Three) => retrieve_sparse(at),
        Err(err) => Err(err.into()),
    };
    match retrieved {
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
extern "C" fn lu_memfd_discard(version: u32, data: u64) {
    let at = PhysAddr::new(data);
    let done = match Version::of(version) {
        Ok(Version::Two) => {
            Waiting::claim(&mut Records, at).and_then(|file| file.discard(&mut Records))
        }
        Ok(Version::Three) => {
            Sparse::claim(&mut Records, at).and_then(|file| file.discard(&mut Records))
        }
        Err(err) => Err(err.into()),
    };
    if let Err(refusal) = done {
        refused("give back", at, refusal);
    }
}
