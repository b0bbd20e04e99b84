// SPDX-License-Identifier: GPL-2.0

//! Dependencies: files that must be preserved before another one.

use core::marker::PhantomData;

use crate::{
    bindings,
    error::{
        code::*,
        Result, //
    },
    fs::File,
    str::{
        CStr,
        CStrExt as _, //
    }, //
};

/// Collects the files that a file needs; see [`FileHandler::needs`].
///
/// [`FileHandler::needs`]: super::FileHandler::needs
pub struct Needs<'a> {
    /// Who asks, for the log.
    handler: &'a CStr,
    missing: bool,
    _not_send: PhantomData<*const ()>,
}

impl<'a> Needs<'a> {
    /// For a file of the handler of that name.
    pub(super) fn of(handler: &'a CStr) -> Self {
        Self {
            handler,
            missing: false,
            _not_send: PhantomData,
        }
    }

    /// Says that `file` must be preserved already.
    ///
    /// If it is not, this is logged, with the name of the file, and the preservation or the reboot
    /// that asked will fail with [`EINVAL`]. Whether it is in the same session does not matter.
    pub fn file(&mut self, file: &File) {
        // SAFETY: A reference to a file is a valid pointer to one that stays open meanwhile.
        if unsafe { bindings::liveupdate_file_is_preserved(file.as_ptr()) } {
            return;
        }
        self.missing = true;
        // SAFETY: The format has a NUL-terminated string and a file that is valid as above, in this
        // order.
        unsafe {
            bindings::_printk(
                c"\x014liveupdate: %s: needs %pD, which is not preserved; preserve it first\n"
                    .as_char_ptr(),
                self.handler.as_char_ptr(),
                file.as_ptr(),
            )
        };
    }

    /// Whether all that was named is preserved.
    pub(super) fn met(&self) -> Result {
        match self.missing {
            true => Err(EINVAL),
            false => Ok(()),
        }
    }
}
