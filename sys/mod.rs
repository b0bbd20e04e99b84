// SPDX-License-Identifier: GPL-2.0

//! The machine: the only place that touches C. On the host, a simulated one with the same names.
//!
//! What `kho` uses, and both sides offer:
//! [`Frame`] (a page frame's memory, word by word), [`pages`] (struct pages: node allocation,
//! giving memory out, freeing what was reserved), [`early`] (memblock and the firmware's map),
//! [`boot_mem`] (memory before any allocator), [`fdt`] (libfdt), [`error`] and [`log`].

#[cfg(not(kernel))]
mod host;
#[cfg(kernel)]
mod linux;

#[cfg(not(kernel))]
pub(crate) use host::*;
#[cfg(kernel)]
pub(crate) use linux::*;

pub(crate) mod addr;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod contract;
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) mod text;

// The API for drivers, another crate, has these two as well.
#[path = "../driver/liveupdate/declare.rs"]
pub(crate) mod declare;
pub(crate) mod fdt;
#[path = "../driver/liveupdate/layout.rs"]
pub(crate) mod layout;
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, not(kernel)))]
#[path = "../driver/liveupdate/record/mod.rs"]
pub(crate) mod record;

/// Makes a format of a struct; what drivers have as `handover_struct!`.
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, not(kernel)))]
macro_rules! handover_struct {
    ($($struct:tt)+) => {
        $crate::__handover_struct!([$crate::sys::record] $($struct)+);
    };
}
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, not(kernel)))]
pub(crate) use handover_struct;

/// The fingerprint of a format that is made of these structs: each with all its fields.
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
macro_rules! layout_of {
    ($($structs:tt)+) => {
        $crate::__liveupdate_fingerprint!([$crate::sys::layout] $($structs)+)
    };
}
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) use layout_of;

/// Declares a format where the code is that reads and writes it: a constant of the type
/// [`declare::Declared`], which in the kernel also stands in `.modinfo`.
macro_rules! declare_format {
    ($(#[$attr:meta])* $name:ident = $declared:expr;) => {
        $(#[$attr])*
        #[cfg_attr(kernel, allow(dead_code))]
        pub(crate) const $name: $crate::sys::declare::Declared = $declared;

        #[cfg(kernel)]
        const _: () = {
            use $crate::sys::declare::Line;
            const LINE: Line = Line::new(Some(b"liveupdate"), &$name);
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static DECLARATION: [u8; LINE.len()] = LINE.bytes();
        };
    };
}
pub(crate) use declare_format;

/// Puts the fields of a format's struct into `.modinfo`, beside the declaration of that version.
#[cfg(all(kernel, CONFIG_LIVEUPDATE_EVENTFD))]
macro_rules! declare_fields {
    ($record:ty, $version:expr) => {
        const _: () = {
            use $crate::sys::record::{FieldsLine, Handover};
            const LINE: FieldsLine = FieldsLine::new(
                Some(b"liveupdate"),
                <$record as Handover>::NAME,
                $version,
                <$record as Handover>::FIELDS,
            );
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static FIELDS: [u8; LINE.len()] = LINE.to();
        };
    };
}
#[cfg(all(kernel, CONFIG_LIVEUPDATE_EVENTFD))]
pub(crate) use declare_fields;

/// Bytes of a release string: `__NEW_UTS_LEN` and a NUL.
pub(crate) const RELEASE_LEN: usize = 65;

/// An image that is loaded and will be booted by a kexec.
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadedImage {
    /// What it is known by; 0 if none is loaded.
    pub(crate) key: usize,
    /// Whether it will find what is handed over: kexec_file_load loaded it.
    pub(crate) handed: bool,
}

/// Most NUMA nodes an architecture allows.
pub(crate) const MAX_NODES: usize = 1024;

/// Where to allocate in early boot.
#[derive(Clone, Copy)]
pub(crate) enum Where {
    /// Below the limit of the architecture's low memory.
    Low,
    /// Anywhere.
    Anywhere,
    /// On this node.
    Node(i32),
}

/// Where nodes come from and go to.
pub(crate) trait NodeStore {
    /// A zeroed frame for a new node, or `None` when memory is out.
    fn alloc(&mut self) -> Option<Frame>;

    /// Takes back a node that nothing refers to any more.
    fn free(&mut self, node: Frame);
}

/// 64-bit words in a page.
pub(crate) const FRAME_WORDS: usize = 1 << (PAGE_SHIFT - 3);
