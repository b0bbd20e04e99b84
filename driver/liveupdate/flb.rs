// SPDX-License-Identifier: GPL-2.0

//! File-lifecycle-bound state (FLB): what many files share, handed over once.

use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::{
        null_mut,
        NonNull, //
    }, //
};

use crate::{
    bindings,
    error::{
        code::*,
        from_result,
        to_result,
        Result, //
    },
    module::this_module,
    prelude::*,
    types::Opaque, //
};

use super::{
    handle::Sealed,
    name_bytes,
    AnyHandle,
    NAME_LENGTH, //
};

/// State that several files need, and that lives as long as one of them.
///
/// It is preserved with the first file of a handler that is tied to it ([`Registration::with`]) and
/// given up with the last. In the new kernel it is retrieved when somebody first asks for it
/// ([`FlbSlot::incoming`]), at the latest when the last of these files is finished, and then
/// dropped.
///
/// The functions may sleep. They must not ask for their own FLB.
///
/// [`Registration::with`]: super::Registration::with
#[vtable]
pub trait Flb: Sized + 'static {
    /// Names what is handed over, with its version: at most 47 bytes, one FLB a name.
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

    /// What is stored: most often [`Handle<SomeStruct>`](super::Handle).
    type Handle: AnyHandle;

    /// The state in the old kernel, from the first file's preservation on. **Dropping it is the
    /// undo**; it is dropped when the last file is given up, never by the kexec.
    type Outgoing: Send + Sync + 'static;

    /// The state in the new kernel. It is dropped after the last file is finished.
    type Incoming: Send + Sync + 'static;

    /// Writes down the state, for the first file that needs it.
    ///
    /// # Errors
    ///
    /// Whatever is returned fails the preservation of that file. Nothing may be left changed.
    fn preserve() -> Result<(Self::Handle, Self::Outgoing)>;

    /// Makes the state again, in the new kernel. Called once.
    ///
    /// `handle`, and what can be read by means of it, comes from another kernel and must be checked
    /// before it is used.
    ///
    /// # Errors
    ///
    /// Whatever is returned is what everybody gets who asks for the state.
    fn retrieve(handle: Self::Handle) -> Result<Self::Incoming>;
}

/// The place of one FLB: a `static`, declared with [`liveupdate_flb!`], because LUO refers to it
/// for as long as a file needs it.
///
/// It does nothing until a handler is tied to it with [`Registration::with`].
///
/// [`Registration::with`]: super::Registration::with
/// [`liveupdate_flb!`]: crate::liveupdate_flb
///
/// # Invariants
///
/// `inner` has the operations and the name of `F`. The rest of it is LUO's.
#[repr(transparent)]
pub struct FlbSlot<F: Flb> {
    inner: Opaque<bindings::liveupdate_flb>,
    _flb: PhantomData<F>,
}

// SAFETY: What is mutable in it is LUO's and protected by LUO's locks.
unsafe impl<F: Flb> Sync for FlbSlot<F> {}

impl<F: Flb> FlbSlot<F> {
    const NAME: [c_char; NAME_LENGTH] = name_bytes(F::COMPATIBLE);

    /// A slot for a `static`. Made by `liveupdate_flb!`.
    #[doc(hidden)]
    pub const fn __new() -> Self {
        // INVARIANT: Written right here.
        Self {
            inner: Opaque::new(bindings::liveupdate_flb {
                ops: &Shell::<F>::OPS,
                compatible: Self::NAME,
                ..pin_init::zeroed()
            }),
            _flb: PhantomData,
        }
    }

    /// The C struct.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::liveupdate_flb {
        self.inner.get()
    }

    /// The state in this kernel, which is preserved because some file needs it.
    ///
    /// It stays at least as long as what is returned.
    ///
    /// # Errors
    ///
    /// - [`ENOENT`] if no file needs it at the moment.
    /// - [`EOPNOTSUPP`] if live updates are off.
    pub fn outgoing(&'static self) -> Result<Outgoing<F>> {
        let mut object = null_mut();
        // SAFETY: `inner` is initialised, and `object` can be written.
        to_result(unsafe { bindings::liveupdate_flb_get_outgoing(self.as_raw(), &mut object) })?;
        // INVARIANT: Got right here. What `preserve` stored is an `F::Outgoing`.
        let object = NonNull::new(object.cast()).ok_or(ENOENT)?;
        Ok(Outgoing { slot: self, object })
    }

    /// The state that came from the previous kernel. The first to ask has it retrieved.
    ///
    /// It stays at least as long as what is returned.
    ///
    /// # Errors
    ///
    /// - [`ENODATA`] if nothing came, or all files that needed it are finished.
    /// - [`ENOENT`] if what came has no FLB of this name.
    /// - [`EOPNOTSUPP`] if live updates are off.
    /// - What [`Flb::retrieve`] returned.
    pub fn incoming(&'static self) -> Result<Incoming<F>> {
        let mut object = null_mut();
        // SAFETY: `inner` is initialised, and `object` can be written.
        to_result(unsafe { bindings::liveupdate_flb_get_incoming(self.as_raw(), &mut object) })?;
        // INVARIANT: Got right here. What `retrieve` stored is an `F::Incoming`.
        let object = NonNull::new(object.cast()).ok_or(ENODATA)?;
        Ok(Incoming { slot: self, object })
    }
}

/// Access to the state of an FLB in the old kernel, from [`FlbSlot::outgoing`].
///
/// # Invariants
///
/// One reference to the outgoing state of `slot` is owned by this; `object` is that state.
pub struct Outgoing<F: Flb> {
    slot: &'static FlbSlot<F>,
    object: NonNull<F::Outgoing>,
}

// SAFETY: It is a shared reference to an object that is `Sync`, and whoever drops it last drops the
// object, which is `Send`.
unsafe impl<F: Flb> Send for Outgoing<F> {}
// SAFETY: Through it there is only shared access to an object that is `Sync`.
unsafe impl<F: Flb> Sync for Outgoing<F> {}

impl<F: Flb> Deref for Outgoing<F> {
    type Target = F::Outgoing;

    fn deref(&self) -> &F::Outgoing {
        // SAFETY: The object lives as long as the reference that the invariants speak of.
        unsafe { self.object.as_ref() }
    }
}

impl<F: Flb> Drop for Outgoing<F> {
    fn drop(&mut self) {
        // SAFETY: The reference is owned, by the invariants, and given back once.
        unsafe { bindings::liveupdate_flb_put_outgoing(self.slot.as_raw()) };
    }
}

/// Access to the state of an FLB in the new kernel, from [`FlbSlot::incoming`].
///
/// # Invariants
///
/// One reference to the incoming state of `slot` is owned by this; `object` is that state.
pub struct Incoming<F: Flb> {
    slot: &'static FlbSlot<F>,
    object: NonNull<F::Incoming>,
}

// SAFETY: It is a shared reference to an object that is `Sync`, and whoever drops it last drops the
// object, which is `Send`.
unsafe impl<F: Flb> Send for Incoming<F> {}
// SAFETY: Through it there is only shared access to an object that is `Sync`.
unsafe impl<F: Flb> Sync for Incoming<F> {}

impl<F: Flb> Deref for Incoming<F> {
    type Target = F::Incoming;

    fn deref(&self) -> &F::Incoming {
        // SAFETY: The object lives as long as the reference that the invariants speak of.
        unsafe { self.object.as_ref() }
    }
}

impl<F: Flb> Drop for Incoming<F> {
    fn drop(&mut self) {
        // SAFETY: The reference is owned, by the invariants, and given back once.
        unsafe { bindings::liveupdate_flb_put_incoming(self.slot.as_raw()) };
    }
}

/// The functions that LUO calls for `F`.
struct Shell<F: Flb>(PhantomData<F>);

impl<F: Flb> Shell<F> {
    const OPS: bindings::liveupdate_flb_ops = bindings::liveupdate_flb_ops {
        preserve: Some(Self::preserve),
        unpreserve: Some(Self::unpreserve),
        retrieve: Some(Self::retrieve),
        finish: Some(Self::finish),
        owner: this_module::<F::OwnerModule>().as_ptr(),
    };

    /// # Safety
    ///
    /// `args` must be valid and the caller's alone.
    unsafe extern "C" fn preserve(args: *mut bindings::liveupdate_flb_op_args) -> c_int {
        // SAFETY: By this function's contract.
        let args = unsafe { &mut *args };
        from_result(|| {
            // Allocated first, so that nothing can fail once the state is preserved.
            let room = KBox::<F::Outgoing>::new_uninit(GFP_KERNEL)?;
            let (handle, outgoing) = F::preserve()?;
            args.data = handle.into_raw();
            args.obj = KBox::into_raw(KBox::write(room, outgoing)).cast();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `args` must be valid, with `obj` as [`Self::preserve`] left it; it is not to be used again.
    unsafe extern "C" fn unpreserve(args: *mut bindings::liveupdate_flb_op_args) {
        // SAFETY: By this function's contract.
        let outgoing = unsafe { (*args).obj };
        // SAFETY: It came from `KBox::into_raw()` in `preserve`, and is given up by the caller.
        drop(unsafe { KBox::<F::Outgoing>::from_raw(outgoing.cast()) });
    }

    /// # Safety
    ///
    /// `args` must be valid and the caller's alone.
    unsafe extern "C" fn retrieve(args: *mut bindings::liveupdate_flb_op_args) -> c_int {
        // SAFETY: By this function's contract.
        let args = unsafe { &mut *args };
        from_result(|| {
            let room = KBox::<F::Incoming>::new_uninit(GFP_KERNEL)?;
            let incoming = F::retrieve(F::Handle::from_raw(args.data))?;
            args.obj = KBox::into_raw(KBox::write(room, incoming)).cast();
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `args` must be valid, with `obj` as [`Self::retrieve`] left it; it is not to be used again.
    unsafe extern "C" fn finish(args: *mut bindings::liveupdate_flb_op_args) {
        // SAFETY: By this function's contract.
        let incoming = unsafe { (*args).obj };
        // SAFETY: It came from `KBox::into_raw()` in `retrieve`, and is given up by the caller.
        drop(unsafe { KBox::<F::Incoming>::from_raw(incoming.cast()) });
    }
}
