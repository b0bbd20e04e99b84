// SPDX-License-Identifier: GPL-2.0

//! Anonymous files: a file that is no more than a Rust object, for handlers to return.

use core::{
    marker::PhantomData,
    ptr, //
};

use crate::{
    bindings,
    error::{
        from_err_ptr,
        Result,
        VTABLE_DEFAULT_ERROR, //
    },
    fs::File,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    module::this_module,
    prelude::*,
    sync::aref::ARef,
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

/// What is behind an anonymous file. It is dropped with the last reference to the file.
///
/// The file has no position: it is a stream.
#[vtable]
pub trait AnonFile: Send + Sync + Sized + 'static {
    /// What the link in /proc/self/fd reads after `anon_inode:`, by custom in brackets.
    const NAME: &'static CStr;

    /// read(2). Without it, the file cannot be read.
    fn read(&self, to: &mut IovIterDest<'_>) -> Result<usize> {
        let _ = to;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// write(2). Without it, the file cannot be written.
    fn write(&self, from: &mut IovIterSource<'_>) -> Result<usize> {
        let _ = from;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// ioctl(2), of 64-bit programs, on `file`, which this object is behind.
    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let _ = (file, cmd, arg);
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// One kind of anonymous file: a `static`, whose address tells files of this kind from all others.
///
/// # Invariants
///
/// Every file with these operations was made by [`Self::create`], so that its private data is a
/// `Pin<KBox<T>>`.
#[repr(transparent)]
pub struct AnonType<T: AnonFile> {
    operations: Opaque<bindings::file_operations>,
    _file: PhantomData<T>,
}

// SAFETY: The operations are never written.
unsafe impl<T: AnonFile> Sync for AnonType<T> {}

impl<T: AnonFile> AnonType<T> {
    /// For a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            operations: Opaque::new(bindings::file_operations {
                owner: this_module::<T::OwnerModule>().as_ptr(),
                read_iter: if T::HAS_READ {
                    Some(Shell::<T>::read)
                } else {
                    None
                },
                write_iter: if T::HAS_WRITE {
                    Some(Shell::<T>::write)
                } else {
                    None
                },
                unlocked_ioctl: if T::HAS_IOCTL {
                    Some(Shell::<T>::ioctl)
                } else {
                    None
                },
                release: Some(Shell::<T>::release),
                ..pin_init::zeroed()
            }),
            _file: PhantomData,
        }
    }

    /// Makes a file, open for reading and writing, that owns `object`: a `T`, or what initialises
    /// one in place.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] without memory, [`ENFILE`] with too many files open.
    /// - [`ENOENT`] if the module is being unloaded.
    /// - What the initialiser returns.
    pub fn create<E>(&'static self, object: impl PinInit<T, E>) -> Result<ARef<File>>
    where
        Error: From<E>,
    {
        let object = KBox::pin_init(object, GFP_KERNEL)?.into_foreign();
        // SAFETY: The name is NUL-terminated. The operations are static and belong to a module of
        // which the file holds a reference. They expect private data as given here.
        let file = from_err_ptr(unsafe {
            bindings::anon_inode_getfile(
                T::NAME.as_char_ptr(),
                self.operations.get(),
                object,
                bindings::O_RDWR as c_int,
            )
        });
        match file.map(ptr::NonNull::new) {
            // SAFETY: The reference to the new file is ours and passed on. Nobody has its position.
            Ok(Some(file)) => Ok(unsafe { ARef::from_raw(file.cast::<File>()) }),
            failed => {
                // SAFETY: It came from `into_foreign()`, and without a file nobody else has it.
                drop(unsafe { Pin::<KBox<T>>::from_foreign(object) });
                Err(failed.err().unwrap_or(EINVAL))
            }
        }
    }

    /// The object behind `file`, if it is of this kind.
    pub fn of<'a>(&'static self, file: &'a File) -> Option<&'a T> {
        // SAFETY: The reference to the file says that it is open; its operations do not change.
        let operations = unsafe { (*file.as_ptr()).f_op };
        if !ptr::eq(operations, self.operations.get()) {
            return None;
        }
        // SAFETY: By the invariants the file has private data as `Shell::object` wants it.
        Some(unsafe { Shell::<T>::object(file.as_ptr()) })
    }
}

/// The file operations of `T`.
struct Shell<T: AnonFile>(PhantomData<T>);

impl<T: AnonFile> Shell<T> {
    /// # Safety
    ///
    /// `file` must have been made by [`AnonType::create`] for `T`, and stay open during `'a`.
    unsafe fn object<'a>(file: *mut bindings::file) -> &'a T {
        // SAFETY: By this function's contract the private data is a `T` that lives as long as the
        // file, and is only ever shared.
        unsafe { &*(*file).private_data.cast::<T>() }
    }

    /// # Safety
    ///
    /// As the VFS calls it, on a file made by [`AnonType::create`] for `T`.
    unsafe extern "C" fn read(kiocb: *mut bindings::kiocb, iter: *mut bindings::iov_iter) -> isize {
        // SAFETY: The VFS passes a valid kiocb, of a file that stays open.
        let object = unsafe { Self::object((*kiocb).ki_filp) };
        // SAFETY: The VFS passes a valid iterator to write to.
        let to = unsafe { IovIterDest::from_raw(iter) };
        result(object.read(to).map(|n| n as isize))
    }

    /// # Safety
    ///
    /// As the VFS calls it, on a file made by [`AnonType::create`] for `T`.
    unsafe extern "C" fn write(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The VFS passes a valid kiocb, of a file that stays open.
        let object = unsafe { Self::object((*kiocb).ki_filp) };
        // SAFETY: The VFS passes a valid iterator to read from.
        let from = unsafe { IovIterSource::from_raw(iter) };
        result(object.write(from).map(|n| n as isize))
    }

    /// # Safety
    ///
    /// As the VFS calls it, on a file made by [`AnonType::create`] for `T`.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The VFS passes a file that stays open.
        let object = unsafe { Self::object(file) };
        // SAFETY: As above; ioctl(2) does not take a file's position.
        let file = unsafe { File::from_raw_file(file) };
        result(object.ioctl(file, cmd, arg))
    }

    /// # Safety
    ///
    /// As the VFS calls it, once, on a file made by [`AnonType::create`] for `T`.
    unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The VFS passes a valid file.
        let object = unsafe { (*file).private_data };
        // SAFETY: It came from `into_foreign()`; with the last reference to the file gone, nobody
        // borrows it.
        drop(unsafe { Pin::<KBox<T>>::from_foreign(object) });
        0
    }
}

/// A result as the VFS wants it.
fn result(of: Result<isize>) -> isize {
    match of {
        Ok(value) => value,
        Err(err) => err.to_errno() as isize,
    }
}
