// SPDX-License-Identifier: GPL-2.0

//! Drivers: file handlers and FLBs as C has them (include/linux/liveupdate.h), behind safe calls.

use core::ffi::c_void;
use core::ptr::{addr_of_mut, null_mut, NonNull};

use kernel::bindings::{
    self, liveupdate_file_handler, liveupdate_file_op_args, liveupdate_file_ops, liveupdate_flb,
    liveupdate_flb_op_args, luo_flb_private_state,
};
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Mutex;

use super::glue;
use crate::sys::contract::{Outcome, Phase, Side};
use crate::sys::text::Compatible;

pub(crate) use super::file::{file_bytes, File, Object};
use crate::sys::error::{Error, Result, EINVAL, EPROTONOSUPPORT};

/// A reference to a driver's module, given up when dropped; nothing for built-in ones.
pub(crate) struct Owner(*mut glue::module);

// SAFETY: Modules are counted atomically and may be let go of by any thread.
unsafe impl Send for Owner {}

impl Owner {
    /// `None` if the module is on its way out.
    ///
    /// # Safety
    ///
    /// `module` is null, or a module that is there as long as this call takes.
    unsafe fn get(module: *mut bindings::module) -> Option<Self> {
        // SAFETY: By the caller's promise.
        unsafe { glue::lu_module_get(module.cast()) }.then_some(Self(module.cast()))
    }

    /// Takes a reference of its own, until `Flb::unkeep_owner`.
    pub(crate) fn keep(&self) {
        // SAFETY: The module cannot go away: this is a reference to it.
        unsafe { glue::lu_module_keep(self.0) };
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference taken in `get`.
        unsafe { glue::lu_module_put(self.0) };
    }
}

/// The values that a handler keeps for an outgoing file.
pub(crate) struct Saved {
    /// The value for the next kernel's handler.
    pub(crate) data: u64,
    /// The value that this kernel's handler keeps beside it.
    private: *mut c_void,
}

// SAFETY: The handler's own; it is passed back to the handler alone, whose operations may be called
// on any thread.
unsafe impl Send for Saved {}

/// An outcome as C has it: the file or null, and 0, 1 or an errno.
fn raw(outcome: &Outcome) -> (*mut bindings::file, c_int) {
    match outcome {
        Outcome::NotRetrieved => (null_mut(), 0),
        Outcome::Retrieved(file) => (file.as_ptr(), 1),
        Outcome::Failed(err) => (null_mut(), err.to_errno()),
    }
}

/// A file handler's operations.
///
/// # Invariants
///
/// Points to a handler that was registered, with the operations that it must have. It stays where
/// it is while it is in the registry or an [`Owner`] of its module lives, and whoever calls has one
/// or the other.
#[derive(Clone, Copy)]
pub(crate) struct Ops(NonNull<liveupdate_file_handler>, Versions);

/// The relations of a handler to those of other versions of its format.
#[derive(Clone, Copy, Default)]
pub(crate) struct Versions {
    /// Makes what another one has preserved into what this one would have.
    pub(crate) convert: glue::lu_convert_fn,
    /// Identifies handlers that keep the same in-memory state for a file; only they can convert
    /// each other's records.
    pub(crate) family: usize,
}

impl PartialEq for Ops {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

// SAFETY: Handlers may be called on any thread.
unsafe impl Send for Ops {}

/// The result of a C operation; what is neither 0 nor an errno is a bug of the driver.
fn result(ret: c_int) -> Result {
    match ret {
        0 => Ok(()),
        err if err < 0 => Err(Error::from_errno(err)),
        _ => Err(EINVAL),
    }
}

impl Ops {
    /// The handler at an address; `None` if it is null or lacks an operation that it must have.
    ///
    /// # Safety
    ///
    /// `handler` is null or a handler that fulfils this type's invariant from now on.
    pub(crate) unsafe fn new(
        handler: *mut liveupdate_file_handler,
        versions: Versions,
    ) -> Option<Self> {
        let ops = Self(NonNull::new(handler)?, versions);
        let table = ops.table();
        let whole = table.can_preserve.is_some()
            && table.preserve.is_some()
            && table.unpreserve.is_some()
            && table.retrieve.is_some()
            && table.finish.is_some();
        whole.then_some(ops)
    }

    fn table(&self) -> &liveupdate_file_ops {
        // SAFETY: The invariant; a handler's table does not change.
        unsafe { &*self.0.as_ref().ops }
    }

    fn arguments(&self) -> liveupdate_file_op_args {
        liveupdate_file_op_args {
            handler: self.0.as_ptr(),
            retrieve_status: 0,
            file: null_mut(),
            serialized_data: 0,
            private_data: null_mut(),
        }
    }

    fn with(&self, file: &File, saved: &Saved) -> liveupdate_file_op_args {
        liveupdate_file_op_args {
            file: file.as_ptr(),
            serialized_data: saved.data,
            private_data: saved.private,
            ..self.arguments()
        }
    }

    /// `None` if its compatible string is empty or not terminated.
    pub(crate) fn compatible(&self) -> Option<Compatible> {
        // SAFETY: The invariant.
        Compatible::new(unsafe { &self.0.as_ref().compatible })
    }

    /// A reference to the handler's module; `None` if that is on its way out.
    pub(crate) fn owner(&self) -> Option<Owner> {
        // SAFETY: A handler that is in the registry keeps its module from being freed.
        unsafe { Owner::get(self.table().owner) }
    }

    pub(crate) fn can_preserve(&self, file: &File) -> bool {
        let call = self.table().can_preserve;
        // SAFETY: The invariant; the file is referenced.
        call.is_some_and(|call| unsafe { call(self.0.as_ptr(), file.as_ptr()) })
    }

    /// Returns a number that is the same for all descriptors of one file.
    pub(crate) fn id(&self, file: &File) -> u64 {
        let id = match self.table().get_id {
            // SAFETY: As above.
            Some(call) => unsafe { call(file.as_ptr()) },
            None => file.as_ptr().addr(),
        };
        id as u64
    }

    pub(crate) fn preserve(&self, file: &File) -> Result<Saved> {
        let mut args = liveupdate_file_op_args {
            file: file.as_ptr(),
            ..self.arguments()
        };
        let call = self.table().preserve.ok_or(EINVAL)?;
        // SAFETY: As above; the arguments live as long as the call takes.
        result(unsafe { call(&mut args) })?;
        Ok(Saved {
            data: args.serialized_data,
            private: args.private_data,
        })
    }

    pub(crate) fn unpreserve(&self, file: &File, saved: &Saved) {
        if let Some(call) = self.table().unpreserve {
            // SAFETY: As above; what was saved came from `preserve`.
            unsafe { call(&mut self.with(file, saved)) };
        }
    }

    pub(crate) fn freeze(&self, file: &File, saved: &mut Saved) -> Result {
        let Some(call) = self.table().freeze else {
            return Ok(());
        };
        let mut args = self.with(file, saved);
        // SAFETY: As above.
        result(unsafe { call(&mut args) })?;
        saved.data = args.serialized_data;
        Ok(())
    }

    pub(crate) fn unfreeze(&self, file: &File, saved: &Saved) {
        if let Some(call) = self.table().unfreeze {
            // SAFETY: As above; the file was frozen.
            unsafe { call(&mut self.with(file, saved)) };
        }
    }

    /// Whether [`Self::convert`] can do something with what another handler keeps.
    pub(crate) fn converts(&self, by: &Ops) -> bool {
        let Versions { convert, family } = self.1;
        convert.is_some() && family != 0 && family == by.1.family
    }

    /// Makes what the handler of another version has preserved into what this one would have.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`] if it cannot, or if the other one, `by`, keeps something else in memory;
    /// what it says. All is as it was then.
    pub(crate) fn convert(&self, file: &File, saved: &mut Saved, by: &Ops, from: u32) -> Result {
        let convert = self.1.convert.filter(|_| self.converts(by));
        let convert = convert.ok_or(EPROTONOSUPPORT)?;
        let mut args = self.with(file, saved);
        // SAFETY: The invariant; what was saved came from a handler that keeps the same.
        result(unsafe { convert((&raw mut args).cast(), from) })?;
        (saved.data, saved.private) = (args.serialized_data, args.private_data);
        Ok(())
    }

    pub(crate) fn retrieve(&self, data: u64) -> Result<File> {
        let mut args = liveupdate_file_op_args {
            serialized_data: data,
            ..self.arguments()
        };
        let call = self.table().retrieve.ok_or(EINVAL)?;
        // SAFETY: As above.
        result(unsafe { call(&mut args) })?;
        let file = NonNull::new(args.file).ok_or(EINVAL)?;
        // SAFETY: The handler made the file, nobody has it in a descriptor table yet, and the
        // reference it made it with is ours now.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }

    fn ending(&self, data: u64, outcome: &Outcome) -> liveupdate_file_op_args {
        let (file, retrieve_status) = raw(outcome);
        liveupdate_file_op_args {
            file,
            retrieve_status,
            serialized_data: data,
            ..self.arguments()
        }
    }

    pub(crate) fn can_finish(&self, data: u64, outcome: &Outcome) -> bool {
        let call = self.table().can_finish;
        // SAFETY: As above; the file, if there is one, is referenced by the outcome.
        call.is_none_or(|call| unsafe { call(&mut self.ending(data, outcome)) })
    }

    pub(crate) fn finish(&self, data: u64, outcome: &Outcome) {
        if let Some(call) = self.table().finish {
            // SAFETY: As above.
            unsafe { call(&mut self.ending(data, outcome)) };
        }
    }
}

/// An FLB.
///
/// # Invariants
///
/// Points to one with the operations that it must have, whose private part is initialised. It stays
/// where it is as an [`Ops`] does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flb(NonNull<liveupdate_flb>);

// SAFETY: FLBs may be called on any thread; their state has locks.
unsafe impl Send for Flb {}
// SAFETY: As above.
unsafe impl Sync for Flb {}

impl Flb {
    /// The FLB at an address; `None` if it is null or lacks an operation that it must have.
    ///
    /// # Safety
    ///
    /// `flb` is null or an FLB that fulfils this type's invariant from now on.
    pub(crate) unsafe fn new(flb: *mut liveupdate_flb) -> Option<Self> {
        let found = NonNull::new(flb)?;
        // SAFETY: By the caller's promise.
        let ops = unsafe { (*flb).ops.as_ref() }?;
        let whole = ops.preserve.is_some()
            && ops.unpreserve.is_some()
            && ops.retrieve.is_some()
            && ops.finish.is_some();
        if whole {
            // SAFETY: By the caller's promise; this is done once however often it is called.
            unsafe { glue::lu_flb_init(flb.cast()) };
        }
        whole.then_some(Self(found))
    }

    fn table(&self) -> &bindings::liveupdate_flb_ops {
        // SAFETY: The invariant; the table does not change.
        unsafe { &*self.0.as_ref().ops }
    }

    /// `None` if its compatible string is empty or not terminated.
    pub(crate) fn compatible(&self) -> Option<Compatible> {
        // SAFETY: The invariant.
        Compatible::new(unsafe { &self.0.as_ref().compatible })
    }

    /// A reference to its module; `None` if that is on its way out.
    pub(crate) fn owner(&self) -> Option<Owner> {
        // SAFETY: An FLB that is in the registry keeps its module from being freed, and so does
        // whoever calls with one of his own.
        unsafe { Owner::get(self.table().owner) }
    }

    /// Undoes [`Owner::keep`].
    pub(crate) fn unkeep_owner(&self) {
        // SAFETY: It was kept when the object was made.
        unsafe { glue::lu_module_put(self.table().owner.cast()) };
    }

    /// Runs `f` on the outgoing side, under its lock.
    pub(crate) fn outgoing<T>(&self, f: impl FnOnce(&mut Side) -> T) -> T {
        // SAFETY: The invariant: this is inside a live FLB.
        let state = unsafe { addr_of_mut!((*self.0.as_ptr()).private.outgoing) };
        // SAFETY: As above.
        unsafe { with_side(state, f) }
    }

    /// Runs `f` on the incoming side, under its lock.
    pub(crate) fn incoming<T>(&self, f: impl FnOnce(&mut Side) -> T) -> T {
        // SAFETY: As above.
        let state = unsafe { addr_of_mut!((*self.0.as_ptr()).private.incoming) };
        // SAFETY: As above.
        unsafe { with_side(state, f) }
    }

    fn call(
        &self,
        op: Option<unsafe extern "C" fn(*mut liveupdate_flb_op_args) -> c_int>,
        data: u64,
    ) -> Result<(u64, Object)> {
        let mut args = liveupdate_flb_op_args {
            flb: self.0.as_ptr(),
            data,
            obj: null_mut(),
        };
        let op = op.ok_or(EINVAL)?;
        // SAFETY: The invariant; the arguments live as long as the call takes.
        result(unsafe { op(&mut args) })?;
        Ok((args.data, Object::from_raw(args.obj)))
    }

    fn call_last(
        &self,
        op: Option<unsafe extern "C" fn(*mut liveupdate_flb_op_args)>,
        data: u64,
        object: Object,
    ) {
        let mut args = liveupdate_flb_op_args {
            flb: self.0.as_ptr(),
            data,
            obj: object.raw(),
        };
        if let Some(op) = op {
            // SAFETY: As above.
            unsafe { op(&mut args) };
        }
    }

    pub(crate) fn preserve(&self) -> Result<(u64, Object)> {
        self.call(self.table().preserve, 0)
    }

    pub(crate) fn unpreserve(&self, data: u64, object: Object) {
        self.call_last(self.table().unpreserve, data, object);
    }

    pub(crate) fn retrieve(&self, data: u64) -> Result<Object> {
        Ok(self.call(self.table().retrieve, data)?.1)
    }

    pub(crate) fn finish(&self, object: Object) {
        self.call_last(self.table().finish, 0, object);
    }
}

/// Runs `f` on one side of an FLB as Rust has it, under its lock.
///
/// # Safety
///
/// `state` is in a live FLB whose private part is initialised.
unsafe fn with_side<T>(state: *mut luo_flb_private_state, f: impl FnOnce(&mut Side) -> T) -> T {
    // SAFETY: By the caller's promise the mutex is initialised.
    let lock = unsafe { Mutex::<()>::from_raw(addr_of_mut!((*state).lock)) };
    let _held = lock.lock();
    // SAFETY: All other fields are guarded by this lock, which is held. The reference does not
    // cover the lock itself.
    let (users, data, obj, finished, status) = unsafe {
        (
            &mut (*state).count.refs.counter,
            &mut (*state).data,
            &mut (*state).obj,
            &mut (*state).finished,
            &mut (*state).retrieve_status,
        )
    };
    let mut side = Side {
        users: u32::try_from(*users).unwrap_or(0),
        data: *data,
        object: Object::from_raw(*obj),
        phase: match (*finished, *status) {
            (true, _) => Phase::Finished,
            (false, 0) => Phase::Idle,
            (false, err) if err < 0 => Phase::Failed(Error::from_errno(err)),
            (false, _) => Phase::Live,
        },
    };
    let result = f(&mut side);
    *users = c_int::try_from(side.users).unwrap_or(c_int::MAX);
    *data = side.data;
    *obj = side.object.raw();
    *finished = side.phase == Phase::Finished;
    *status = match side.phase {
        Phase::Idle | Phase::Finished => 0,
        Phase::Live => 1,
        Phase::Failed(err) => err.to_errno(),
    };
    result
}
