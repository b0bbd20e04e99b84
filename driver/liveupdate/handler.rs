// SPDX-License-Identifier: GPL-2.0

//! File handlers: the trait, its registration, and the functions that LUO calls.

use core::{
    marker::PhantomData,
    ptr, //
};

use crate::{
    bindings,
    error::{
        code::*,
        from_result,
        to_result,
        Error,
        Result, //
    },
    fs::File,
    module::this_module,
    prelude::*,
    sync::aref::ARef,
    types::Opaque, //
};

use super::{
    handle::Sealed,
    name_bytes,
    AnyHandle,
    Flb,
    FlbSlot,
    Needs,
    NAME_LENGTH, //
};

/// What became of a file in the new kernel, when its session is finished.
pub enum Retrieval<'a, H> {
    /// It was retrieved and is this. The handle was used up by that.
    Done(&'a File),
    /// It was asked for, and [`FileHandler::retrieve`] failed with this. What could be given back
    /// was given back then.
    Failed(Error),
    /// Nobody asked for it. What the handle stands for is to be given back now.
    NeverAsked(H),
}

impl<H: AnyHandle> Retrieval<'_, H> {
    /// Gives back what the handle stands for, if nobody has done so; see [`AnyHandle::discard`].
    pub fn discard(self) {
        if let Self::NeverAsked(handle) = self {
            handle.discard();
        }
    }
}

/// How one kind of file lives through a live update.
///
/// The functions have no `self`: a handler is code, and what belongs to one file is in [`Live`] or
/// in the file. They are called by LUO in the context of the task that asked, which may sleep; not
/// two at a time for one file, but for several files at once. They must not call back into LUO for
/// the same session.
///
/// See the [module](super) for an example.
///
/// [`Live`]: Self::Live
#[vtable]
pub trait FileHandler: Sized + 'static {
    /// Names what is handed over, with its version: at most 47 bytes, one handler a name. A kernel
    /// whose handler does not understand these bytes must not have a handler of this name.
    const COMPATIBLE: &'static CStr;

    /// Fingerprint of the layout of what is handed over, by [`liveupdate_layout!`]; 0 says nothing.
    ///
    /// [`liveupdate_layout!`]: crate::liveupdate_layout
    const LAYOUT: u32 = 0;

    /// The fields of what is handed over, if a struct of [`handover_struct!`] is: its
    /// [`FIELDS`](super::record::Handover::FIELDS). The fingerprint follows from them.
    ///
    /// [`handover_struct!`]: crate::handover_struct
    const FIELDS: &'static [super::record::Entry] = &[];

    /// What is stored for a file: most often [`Handle<SomeStruct>`](super::Handle).
    type Handle: AnyHandle;

    /// What the old kernel keeps while a file is preserved. **Dropping it is the undo**: it gives
    /// back memory and makes the file usable again as it was. It is dropped when userspace gives
    /// up the update, never by the kexec.
    type Live: Send + 'static;

    /// Whether `file` is of the kind that this handler preserves.
    ///
    /// It is asked of any file at all, and must be quick. The first handler that says yes gets the
    /// file.
    fn can_preserve(file: &File) -> bool;

    /// What two descriptors of the same thing have in common, so that it is preserved once only:
    /// the address of the inode, for instance. By default that of the file.
    fn id(file: &File) -> usize {
        ptr::from_ref(file).addr()
    }

    /// Names the files that must be preserved before `file`, by calling [`Needs::file`] for each.
    ///
    /// It is called right before [`Self::preserve`], and again at the freeze, since files may have
    /// been given up meanwhile. If one is missing, the preservation, or the reboot, fails with
    /// [`EINVAL`], and the log names it. Files are never preserved on behalf of others, nor sorted:
    /// userspace gives them in the right order.
    ///
    /// # Errors
    ///
    /// Whatever is returned fails the preservation, or the reboot.
    fn needs(file: &File, needs: &mut Needs<'_>) -> Result {
        let _ = (file, needs);
        Ok(())
    }

    /// Writes down what makes `file` what it is.
    ///
    /// The file stays in use. What must not change from now on, this makes unchangeable.
    ///
    /// # Errors
    ///
    /// Whatever is returned is what userspace gets. Nothing may be left changed, which is so if
    /// what was done is undone by dropping it.
    fn preserve(file: &File) -> Result<(Self::Handle, Self::Live)>;

    /// Brings what was written down up to date, as the last thing before the kexec.
    ///
    /// `handle` is the one from [`Self::preserve`] or the last freeze; what is returned is handed
    /// over. Tasks other than the caller of reboot(2) still run. Live state must not be destroyed,
    /// since there may be an [`Self::unfreeze`] yet. No memory should be needed.
    ///
    /// # Errors
    ///
    /// Whatever is returned is what reboot(2) returns. The system runs on; this file counts as not
    /// frozen.
    fn freeze(live: &mut Self::Live, file: &File, handle: Self::Handle) -> Result<Self::Handle> {
        let _ = (live, file);
        Ok(handle)
    }

    /// Writes anew, in this version of the format, what is kept of a file that was preserved in
    /// another version of the same [`Family`]: the next kernel, now known, reads this one.
    ///
    /// The file was preserved and is not frozen. What the other version wrote is `live`'s to give
    /// up.
    ///
    /// # Errors
    ///
    /// Nothing may have changed then: the file stays in the other version, and if the next kernel
    /// does not read that, loading it, or the reboot, fails with this.
    fn rewrite(live: &mut Self::Live, file: &File) -> Result<Self::Handle> {
        let _ = (live, file);
        Err(EPROTONOSUPPORT)
    }

    /// Undoes [`Self::freeze`]: the reboot does not take place. The file stays preserved.
    fn unfreeze(live: &mut Self::Live, file: &File) {
        let _ = (live, file);
    }

    /// Makes a file, in the new kernel, from what was written down.
    ///
    /// It is called once, whatever it returns. `handle`, and what can be read by means of it, comes
    /// from another kernel and must be checked before it is used.
    ///
    /// # Errors
    ///
    /// Whatever is returned is what userspace gets, now and when it asks again.
    fn retrieve(handle: Self::Handle) -> Result<ARef<File>>;

    /// Whether a session with this file may be finished. If not, finishing it fails with [`EBUSY`],
    /// for all its files, and can be tried again.
    fn can_finish(retrieval: &Retrieval<'_, Self::Handle>) -> bool {
        let _ = retrieval;
        true
    }

    /// The last call for a file in the new kernel.
    ///
    /// What was preserved is given back if nobody asked for it, which is what
    /// [`Retrieval::discard`] and this by default do.
    fn finish(retrieval: Retrieval<'_, Self::Handle>) {
        retrieval.discard();
    }
}

/// What handlers have in common that write versions of one format: what they keep of a preserved
/// file is the same, so that each can [rewrite](FileHandler::rewrite) what another has preserved.
///
/// A `static`, named in the [declaration](crate::liveupdate_handler) of each of them.
pub struct Family<L> {
    /// What has no size need not have an address of its own.
    _address: u8,
    _live: PhantomData<fn(L) -> L>,
}

impl<L> Family<L> {
    /// A family of handlers that keep an `L`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            _address: 0,
            _live: PhantomData,
        }
    }
}

/// The place of one file handler: a `static`, declared with [`liveupdate_handler!`], because LUO
/// refers to it for as long as there is a file of this kind, which may be longer than it is
/// registered.
///
/// [`liveupdate_handler!`]: crate::liveupdate_handler
///
/// # Invariants
///
/// `inner` has the operations and the name of `T`. The rest of it is LUO's.
pub struct HandlerSlot<T: FileHandler> {
    inner: Opaque<bindings::liveupdate_file_handler>,
    family: Option<&'static Family<T::Live>>,
}

// SAFETY: What is mutable in it is LUO's and protected by LUO's locks.
unsafe impl<T: FileHandler> Sync for HandlerSlot<T> {}

impl<T: FileHandler> HandlerSlot<T> {
    const NAME: [c_char; NAME_LENGTH] = name_bytes(T::COMPATIBLE);

    /// What rewrites files of the family, if this handler does.
    pub(super) const CONVERT: Convert = Shell::<T>::CONVERT;

    /// A slot for a `static`; it does nothing until it is registered. Made by
    /// `liveupdate_handler!`.
    #[doc(hidden)]
    pub const fn __new(family: Option<&'static Family<T::Live>>) -> Self {
        // INVARIANT: Written right here.
        Self {
            inner: Opaque::new(bindings::liveupdate_file_handler {
                ops: &Shell::<T>::OPS,
                compatible: Self::NAME,
                ..pin_init::zeroed()
            }),
            family,
        }
    }

    /// The C struct.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::liveupdate_file_handler {
        self.inner.get()
    }

    /// Registers the handler. From now on its files can be preserved, and are recognised when they
    /// arrive from the previous kernel.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if there is a handler of this name, this one included.
    /// - [`EOPNOTSUPP`] if live updates are off; see [`Self::register_if_enabled`].
    pub fn register(&'static self) -> Result<Registration<T>> {
        let err = match self.family {
            // SAFETY: `inner` is initialised, and static: it stays valid as long as the module. A
            // module is not unloaded before it has dropped what it owns, and not as long as there
            // are files of this handler, since LUO holds a reference to the owner for each.
            None => unsafe { bindings::liveupdate_register_file_handler(self.as_raw()) },
            // SAFETY: As above. All that have the address of this family have its type, so what
            // they keep of a file is a `T::Live`, as `convert` needs it.
            Some(family) => unsafe {
                bindings::liveupdate_register_version(
                    self.as_raw(),
                    Self::CONVERT,
                    ptr::from_ref(family).cast(),
                )
            },
        };
        to_result(err)?;
        // INVARIANT: Registered right here.
        Ok(Registration { slot: self })
    }

    /// Registers the handler if live updates are on, and gives nothing if they are off.
    ///
    /// # Errors
    ///
    /// [`EEXIST`], as [`Self::register`].
    pub fn register_if_enabled(&'static self) -> Result<Option<Registration<T>>> {
        match self.register() {
            Err(err) if err == EOPNOTSUPP => Ok(None),
            other => other.map(Some),
        }
    }
}

/// A registered file handler. Dropping it unregisters the handler, and with it its FLBs.
///
/// Files that are preserved at that time stay so.
///
/// # Invariants
///
/// `slot` is registered, and nobody else unregisters it.
#[must_use = "dropping it unregisters the handler"]
pub struct Registration<T: FileHandler> {
    slot: &'static HandlerSlot<T>,
}

impl<T: FileHandler> Registration<T> {
    /// Ties the handler to an FLB: whenever a file of this kind is preserved, so is the FLB.
    ///
    /// To be done right after registering: a file preserved before goes without.
    ///
    /// # Errors
    ///
    /// The handler is unregistered again, and the error is
    ///
    /// - [`EEXIST`] if it is tied to this FLB already, or there is another FLB of the same name.
    /// - [`ENOSPC`] if there are as many FLBs as can be handed over.
    /// - [`ENOMEM`] without memory.
    pub fn with<F: Flb>(self, flb: &'static FlbSlot<F>) -> Result<Self> {
        // SAFETY: The handler is registered by the invariants. `flb` is initialised and static:
        // its module, if it is another one, is one that the handler's module links to.
        to_result(unsafe { bindings::liveupdate_register_flb(self.slot.as_raw(), flb.as_raw()) })?;
        Ok(self)
    }

    /// Keeps the handler registered for ever. If it belongs to a module, that can no longer be
    /// unloaded.
    pub fn forever(self) {
        let owner = this_module::<T::OwnerModule>().as_ptr();
        // SAFETY: The owner is null or the module that is running this code. The function
        // accepts both.
        unsafe { bindings::__module_get(owner) };
        core::mem::forget(self);
    }
}

impl<T: FileHandler> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by the invariants, and this is done once.
        unsafe { bindings::liveupdate_unregister_file_handler(self.slot.as_raw()) };
    }
}

/// The function that makes what another version's handler has preserved into what this one would
/// have.
type Convert = Option<unsafe extern "C" fn(*mut bindings::liveupdate_file_op_args, u32) -> c_int>;

/// The functions that LUO calls for `T`: each turns pointers into references once, calls the safe
/// function, and turns its result into a number once.
struct Shell<T: FileHandler>(PhantomData<T>);

impl<T: FileHandler> Shell<T> {
    const OPS: bindings::liveupdate_file_ops = bindings::liveupdate_file_ops {
        can_preserve: Some(Self::can_preserve),
        preserve: Some(Self::preserve),
        unpreserve: Some(Self::unpreserve),
        freeze: if T::HAS_FREEZE || T::HAS_NEEDS {
            Some(Self::freeze)
        } else {
            None
        },
        unfreeze: if T::HAS_UNFREEZE {
            Some(Self::unfreeze)
        } else {
            None
        },
        retrieve: Some(Self::retrieve),
        can_finish: if T::HAS_CAN_FINISH {
            Some(Self::can_finish)
        } else {
            None
        },
        finish: Some(Self::finish),
        get_id: if T::HAS_ID { Some(Self::get_id) } else { None },
        owner: this_module::<T::OwnerModule>().as_ptr(),
    };

    /// # Safety
    ///
    /// `file` must be a file of which the caller holds a reference for the duration of `'a`, and
    /// that no `fdget_pos()` without the position's lock is active for. LUO's callers come by
    /// ioctl(2), close(2) or reboot(2) and hold references from `fget()` or a handler.
    unsafe fn file<'a>(file: *mut bindings::file) -> &'a File {
        // SAFETY: As the caller guarantees.
        unsafe { File::from_raw_file(file) }
    }

    /// # Safety
    ///
    /// `private_data` must come from [`Self::preserve`], or that of a handler that keeps the same
    /// type, and be accessed by nobody else during `'a`.
    unsafe fn live<'a>(private_data: *mut c_void) -> &'a mut T::Live {
        // SAFETY: `preserve` left a `KBox<T::Live>` there, whoever's it was, and as the caller
        // guarantees.
        unsafe { &mut *private_data.cast() }
    }

    /// Fails unless all that `file` needs is preserved.
    fn check_needs(file: &File) -> Result {
        if !T::HAS_NEEDS {
            return Ok(());
        }
        let mut needs = Needs::of(T::COMPATIBLE);
        T::needs(file, &mut needs)?;
        needs.met()
    }

    /// # Safety
    ///
    /// `file` must be as [`Self::file`] says.
    unsafe extern "C" fn can_preserve(
        _handler: *mut bindings::liveupdate_file_handler,
        file: *mut bindings::file,
    ) -> bool {
        // SAFETY: By this function's contract.
        T::can_preserve(unsafe { Self::file(file) })
    }

    /// # Safety
    ///
    /// `file` must be as [`Self::file`] says.
    unsafe extern "C" fn get_id(file: *mut bindings::file) -> c_ulong {
        // SAFETY: By this function's contract.
        T::id(unsafe { Self::file(file) })
    }

    /// # Safety
    ///
    /// `args` must be valid and the caller's alone; `file` in it as [`Self::file`] says.
    unsafe extern "C" fn preserve(args: *mut bindings::liveupdate_file_op_args) -> c_int {
        // SAFETY: By this function's contract.
        let args = unsafe { &mut *args };
        // SAFETY: By this function's contract.
        let file = unsafe { Self::file(args.file) };
        from_result(|| {
            Self::check_needs(file)?;
            // Allocated first, so that nothing can fail once the file is preserved.
            let room = KBox::<T::Live>::new_uninit(GFP_KERNEL)?;
            let (handle, live) = T::preserve(file)?;
            args.serialized_data = handle.into_raw();
            args.private_data = KBox::into_raw(KBox::write(room, live)).cast();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `args` must be valid, with `private_data` as [`Self::preserve`] left it; it is not to be
    /// used again.
    unsafe extern "C" fn unpreserve(args: *mut bindings::liveupdate_file_op_args) {
        // SAFETY: By this function's contract.
        let live = unsafe { (*args).private_data };
        // SAFETY: It came from `KBox::into_raw()` in `preserve`, and is given up by the caller.
        drop(unsafe { KBox::<T::Live>::from_raw(live.cast()) });
    }

    /// # Safety
    ///
    /// `args` must be valid and the caller's alone; `file` in it as [`Self::file`] says, and
    /// `private_data` as [`Self::live`] says.
    unsafe extern "C" fn freeze(args: *mut bindings::liveupdate_file_op_args) -> c_int {
        // SAFETY: By this function's contract.
        let args = unsafe { &mut *args };
        // SAFETY: By this function's contract.
        let (file, live) = unsafe { (Self::file(args.file), Self::live(args.private_data)) };
        from_result(|| {
            Self::check_needs(file)?;
            let handle = T::Handle::from_raw(args.serialized_data);
            args.serialized_data = T::freeze(live, file, handle)?.into_raw();
            Ok(0)
        })
    }

    const CONVERT: Convert = if T::HAS_REWRITE {
        Some(Self::convert)
    } else {
        None
    };

    /// # Safety
    ///
    /// As [`Self::freeze`].
    unsafe extern "C" fn convert(
        args: *mut bindings::liveupdate_file_op_args,
        _from: u32,
    ) -> c_int {
        // SAFETY: By this function's contract.
        let args = unsafe { &mut *args };
        // SAFETY: By this function's contract.
        let (file, live) = unsafe { (Self::file(args.file), Self::live(args.private_data)) };
        from_result(|| {
            args.serialized_data = T::rewrite(live, file)?.into_raw();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As [`Self::freeze`].
    unsafe extern "C" fn unfreeze(args: *mut bindings::liveupdate_file_op_args) {
        // SAFETY: By this function's contract.
        let args = unsafe { &mut *args };
        // SAFETY: By this function's contract.
        let (file, live) = unsafe { (Self::file(args.file), Self::live(args.private_data)) };
        T::unfreeze(live, file);
    }

    /// # Safety
    ///
    /// `args` must be valid and the caller's alone.
    unsafe extern "C" fn retrieve(args: *mut bindings::liveupdate_file_op_args) -> c_int {
        // SAFETY: By this function's contract.
        let args = unsafe { &mut *args };
        from_result(|| {
            let file = T::retrieve(T::Handle::from_raw(args.serialized_data))?;
            args.file = ARef::into_raw(file).as_ptr().cast();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// If `retrieve_status` in `args` is positive, `file` must be as [`Self::file`] says.
    unsafe fn retrieval(args: &bindings::liveupdate_file_op_args) -> Retrieval<'_, T::Handle> {
        match args.retrieve_status {
            0 => Retrieval::NeverAsked(T::Handle::from_raw(args.serialized_data)),
            err if err < 0 => Retrieval::Failed(Error::from_errno(err)),
            // SAFETY: By this function's contract.
            _ => Retrieval::Done(unsafe { Self::file(args.file) }),
        }
    }

    /// # Safety
    ///
    /// `args` must be valid, and as [`Self::retrieval`] says.
    unsafe extern "C" fn can_finish(args: *mut bindings::liveupdate_file_op_args) -> bool {
        // SAFETY: By this function's contract.
        T::can_finish(&unsafe { Self::retrieval(&*args) })
    }

    /// # Safety
    ///
    /// `args` must be valid, and as [`Self::retrieval`] says.
    unsafe extern "C" fn finish(args: *mut bindings::liveupdate_file_op_args) {
        // SAFETY: By this function's contract.
        T::finish(unsafe { Self::retrieval(&*args) });
    }
}
