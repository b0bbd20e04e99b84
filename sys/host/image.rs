// SPDX-License-Identifier: GPL-2.0

//! The image that the simulated kernel will boot next, and what its command line says of formats.

use std::cell::{Cell, RefCell};

use crate::luo::formats::id::Id;
use crate::sys::LoadedImage;

thread_local! {
    static LOADED: Cell<LoadedImage> = const { Cell::new(LoadedImage { key: 0, handed: false }) };
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
