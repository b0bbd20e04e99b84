// SPDX-License-Identifier: GPL-2.0

//! The image that the simulated kernel will boot next.

use std::cell::Cell;

use crate::sys::LoadedImage;

thread_local! {
    static LOADED: Cell<LoadedImage> = const { Cell::new(LoadedImage { key: 0, handed: false }) };
}

/// The image that is loaded.
pub(crate) fn loaded_image() -> LoadedImage {
    LOADED.get()
}

/// Loads an image, or none.
pub(crate) fn load(image: LoadedImage) {
    LOADED.set(image);
}
