// SPDX-License-Identifier: GPL-2.0

//! Files and live objects of the simulated drivers.

use std::any::Any;

use super::alloc::Arc;

/// A file, with a reference to it.
pub(crate) type File = Arc<FakeFile>;

/// A file of the simulated kernel.
#[derive(Debug)]
pub(crate) struct FakeFile {
    /// Returns a number that is the same for all descriptors of one file.
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    /// Whose it is and what is in it, as its driver knows.
    pub(crate) inner: Box<dyn Any>,
}

/// The size of a file in bytes.
pub(crate) fn file_bytes(file: &File) -> u64 {
    file.bytes
}

/// A driver's live object, shared by files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object(pub(crate) u64);

impl Object {
    pub(crate) const NULL: Self = Self(0);

    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }
}
