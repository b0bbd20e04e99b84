// SPDX-License-Identifier: GPL-2.0

//! The image that a kexec would boot.

use super::glue;
use crate::sys::LoadedImage;

/// The image that is loaded.
pub(crate) fn loaded_image() -> LoadedImage {
    let mut handed = false;
    // SAFETY: `handed` may be written.
    let key = unsafe { glue::lu_loaded_image(&mut handed) };
    let key = key as usize;
    LoadedImage { key, handed }
}
