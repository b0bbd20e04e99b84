// SPDX-License-Identifier: GPL-2.0

//! The bytes of "luo-v5": what one kernel's orchestrator leaves for the next one's.
//!
//! A root names a chain of session records and a table of FLBs; a session names a chain of file
//! records. All numbers are native-endian, addresses physical, texts padded with NUL.
//! (Layout: include/linux/kho/abi/luo.h.)

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::sys::{declare::Declared, declare_format, layout_of};

/// Name of the subtree that holds a [`LuoSer`].
pub(crate) const SUBTREE: &core::ffi::CStr = c"LUO";

/// The name and version of this format, as in [`LuoSer::compatible`].
pub(crate) const COMPATIBLE: [u8; 8] = *b"luo-v5\0\0";

declare_format! {
    /// The root, sessions, and files.
    FORMAT = Declared::compatible(
        &COMPATIBLE,
        "rw",
        layout_of!(
            LuoSer { compatible, number, sessions, flbs },
            SessionSer { name, files, count },
            FileSer { compatible, data, token },
        ),
    );
}

declare_format! {
    /// The table of FLBs. It goes with the version of the root.
    FLB_FORMAT = Declared::new(
        "luo-flb",
        1,
        "rw",
        layout_of!(FlbHeaderSer { pages, count }, FlbSer { name, data, count }),
    );
}

/// Bytes of a session's name, the NUL included.
pub(crate) const NAME: usize = 64;

/// Bytes of a handler's or an FLB's compatible string, the NUL included.
pub(crate) const COMPAT: usize = crate::sys::text::COMPAT;

/// Pages of the table of FLBs.
pub(crate) const FLB_PAGES: u64 = 1;

/// The root: `struct luo_ser`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct LuoSer {
    pub(crate) compatible: [u8; 8],
    /// Number of the update that leads to the reader, from 1.
    pub(crate) number: u64,
    /// First block of [`SessionSer`], or 0.
    pub(crate) sessions: u64,
    /// The table of FLBs, or 0.
    pub(crate) flbs: u64,
}

/// A session: `struct luo_session_ser` with its `struct luo_file_set_ser`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct SessionSer {
    pub(crate) name: [u8; NAME],
    /// First block of [`FileSer`], or 0.
    pub(crate) files: u64,
    /// Files in all blocks.
    pub(crate) count: u64,
}

/// A file: `struct luo_file_ser`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct FileSer {
    pub(crate) compatible: [u8; COMPAT],
    /// The handler's own.
    pub(crate) data: u64,
    pub(crate) token: u64,
}

/// The header of the table of FLBs: `struct luo_flb_header_ser`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct FlbHeaderSer {
    /// [`FLB_PAGES`].
    pub(crate) pages: u64,
    pub(crate) count: u64,
}

/// An FLB: `struct luo_flb_ser`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct FlbSer {
    pub(crate) name: [u8; COMPAT],
    /// The FLB's own.
    pub(crate) data: u64,
    /// Files that need it, and its other holders.
    pub(crate) count: u64,
}

/// FLBs that fit the table.
pub(crate) const MAX_FLBS: usize =
    ((1 << crate::sys::PAGE_SHIFT) - size_of::<FlbHeaderSer>()) / size_of::<FlbSer>();

const _: () = assert!(size_of::<LuoSer>() == 32);
const _: () = assert!(size_of::<SessionSer>() == 80);
const _: () = assert!(size_of::<FileSer>() == 64);
const _: () = assert!(size_of::<FlbHeaderSer>() == 16);
const _: () = assert!(size_of::<FlbSer>() == 64);
