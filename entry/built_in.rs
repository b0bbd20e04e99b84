// SPDX-License-Identifier: GPL-2.0

//! What stands for this crate's module where the kernel crate asks for one: it is built in.

use kernel::prelude::*;
use kernel::ModuleMetadata;

/// The crate as a module that is always there.
pub(crate) struct BuiltIn;

impl ModuleMetadata for BuiltIn {
    const NAME: &'static CStr = c"liveupdate";

    // SAFETY: Null stands for the kernel itself.
    const THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
}
