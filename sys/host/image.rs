// SPDX-License-Identifier: GPL-2.0

//! The image that the simulated kernel will boot next, and the catalogue of its own.

use std::cell::{Cell, RefCell};

use crate::luo::formats::id::Id;
use crate::sys::LoadedImage;

thread_local! {
    static LOADED: Cell<LoadedImage> = const { Cell::new(LoadedImage { key: 0, handed: false }) };
    static CATALOGUE: Cell<Option<&'static [u8]>> = const { Cell::new(None) };
    static HIDDEN: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
    static LENIENT: Cell<bool> = const { Cell::new(false) };
}

/// The image that is loaded.
pub(crate) fn loaded_image() -> LoadedImage {
    LOADED.get()
}

/// Loads an image, or none.
pub(crate) fn load(image: LoadedImage) {
    LOADED.set(image);
}

/// This kernel's catalogue.
pub(crate) fn own_catalogue() -> Option<&'static [u8]> {
    CATALOGUE.get()
}

/// Gives kernels that boot from now on a catalogue.
pub(crate) fn build(catalogue: Option<&'static [u8]>) {
    CATALOGUE.set(catalogue);
}

/// Whether this kernel is to do as if it did not have a format.
pub(crate) fn hidden(format: &Id) -> bool {
    HIDDEN.with_borrow(|hidden| hidden.contains(format))
}

/// Whether images of unknown release are taken for mainline.
pub(crate) fn unknown_is_mainline() -> bool {
    LENIENT.get()
}

/// What a command line would say: formats to hide, and `liveupdate.unknown=mainline`.
pub(crate) fn switches(hide: Vec<Id>, lenient: bool) {
    HIDDEN.replace(hide);
    LENIENT.set(lenient);
}
