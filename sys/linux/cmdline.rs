// SPDX-License-Identifier: GPL-2.0

//! Switches of the command line that are asked for far below where they are parsed.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::prelude::*;

use super::glue;

/// `liveupdate.unknown=mainline`.
static MAINLINE: AtomicBool = AtomicBool::new(false);

/// `liveupdate.on_error=panic`.
static PANIC: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_unknown_is_mainline(on: bool) {
    MAINLINE.store(on, Ordering::Relaxed);
}

/// Whether images of unknown release are taken for mainline.
pub(crate) fn unknown_is_mainline() -> bool {
    MAINLINE.load(Ordering::Relaxed)
}

/// `liveupdate.audit=off`.
static UNAUDITED: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_audited(on: bool) {
    UNAUDITED.store(!on, Ordering::Relaxed);
}

/// Whether images are looked at for what they cannot take over. Off is for tests of what the next
/// kernel does then.
pub(crate) fn is_audited() -> bool {
    !UNAUDITED.load(Ordering::Relaxed)
}

pub(crate) fn set_panic(on: bool) {
    PANIC.store(on, Ordering::Relaxed);
}

/// Something that arrived is damaged: stops the machine if the operator wants that.
pub(crate) fn on_error(_what: core::fmt::Arguments<'_>) {
    if PANIC.load(Ordering::Relaxed) {
        // SAFETY: A C string. The line before says what it is about.
        unsafe { glue::lu_panic(c"liveupdate.on_error=panic".as_char_ptr()) };
    }
}

/// The formats that `liveupdate.hide=` names, as it was given.
pub(crate) fn hidden_formats() -> &'static [u8] {
    // SAFETY: A string of C's that does not change once the command line was parsed.
    unsafe { CStr::from_char_ptr(glue::lu_hidden_formats()) }.to_bytes()
}
