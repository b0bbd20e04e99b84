// SPDX-License-Identifier: GPL-2.0

//! Decides which formats may be written: those that the next kernel can read.

use super::id::Id;
use super::image::Reads;
pub(crate) use super::image::Target;
use super::own::Own;

/// The formats that the next kernel reads.
pub(crate) struct Choice<'a> {
    pub(crate) own: &'a Own,
    pub(crate) target: Target,
}

impl Choice<'_> {
    /// Whether a format may be written.
    ///
    /// A format that is in neither catalogue, nor another version of it in the image's, is one that
    /// catalogues say nothing of: a driver's that does not declare it, or a module's. It passes, as
    /// with mainline, and the next kernel finds out.
    pub(crate) fn reads(&self, format: &Id) -> bool {
        let image = match &self.target {
            Target::Any => return true,
            Target::Unable => return false,
            Target::Image(image) => image,
        };
        let Reads::These(list) = &image.reads else {
            return false;
        };
        match self.own.get(format) {
            Some(own) => list.iter().any(|read| read.is(format, own.layout)),
            None => {
                let mut versions = list.iter().filter(|read| read.id.name == format.name);
                let known = versions.clone().next().is_some();
                !known || versions.any(|read| read.id == *format)
            }
        }
    }
}
