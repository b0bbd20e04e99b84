// SPDX-License-Identifier: GPL-2.0

//! The simulated kernel's own catalogue of formats: nothing was linked, so it is what a test says.

use std::cell::Cell;

thread_local! {
    static OWN: Cell<&'static [u8]> = const { Cell::new(&[]) };
}

/// The catalogue's bytes; none unless somebody made one.
pub(crate) fn own() -> &'static [u8] {
    OWN.get()
}

/// Gives kernels that boot from now on this catalogue.
pub(crate) fn build(bytes: &'static [u8]) {
    OWN.set(bytes);
}
