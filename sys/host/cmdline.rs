// SPDX-License-Identifier: GPL-2.0

//! The command line of the simulated kernel.

use std::cell::Cell;

thread_local! {
    static HIDDEN: Cell<&'static [u8]> = const { Cell::new(&[]) };
    static LENIENT: Cell<bool> = const { Cell::new(false) };
}

/// The formats that `liveupdate.hide=` names, as it was given.
pub(crate) fn hidden_formats() -> &'static [u8] {
    HIDDEN.get()
}

/// Whether images of unknown release are taken for mainline.
pub(crate) fn unknown_is_mainline() -> bool {
    LENIENT.get()
}

/// Whether images are looked at for what they cannot take over.
pub(crate) fn is_audited() -> bool {
    true
}

/// Something that arrived is damaged; the simulated kernel goes on.
pub(crate) fn on_error(_what: core::fmt::Arguments<'_>) {}

/// What a command line would say: `liveupdate.hide=`, and `liveupdate.unknown=mainline`.
pub(crate) fn switches(hide: &'static [u8], lenient: bool) {
    HIDDEN.set(hide);
    LENIENT.set(lenient);
}
