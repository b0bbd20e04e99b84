// SPDX-License-Identifier: GPL-2.0

//! Live update: files that live through a kexec.
//!
//! The live update orchestrator (LUO) carries file descriptors over a kexec into the next kernel.
//! Of each file that userspace asks it to preserve, a *file handler* writes down what makes the
//! file what it is, in memory that the next kernel finds again; there, the handler of the same
//! name makes a new file from it.
//!
//! A driver
//!
//! 1. implements [`FileHandler`] for a type of its own, most often an empty one;
//! 2. declares a `static` [`HandlerSlot`] of that type with [`liveupdate_handler!`], which also
//!    puts its format into the catalogue of formats that the kernel, or the module, shows, and
//! 3. registers it, which gives a [`Registration`] to keep in its module.
//!
//! What is handed over is a struct of plain bytes in [`Preserved`] memory. Its [`Handle`] is all
//! that LUO stores; with it, the next kernel takes the memory back as [`Restored`]. A struct that
//! is declared with [`handover_struct!`] has a layout and versions of its own, and its memory is a
//! [`PreservedRecord`]; see [`record`]. State that many files share is an [`Flb`], and lives as
//! long as any file that needs it. What changes all the time, and must be right whenever the
//! machine jumps, is not written down at all: it lives in a [`Slab`](slab::Slab) or an
//! [`Array`](array::Array), which are preserved as they are.
//!
//! [`liveupdate_handler!`]: crate::liveupdate_handler
//! [`handover_struct!`]: crate::handover_struct
//!
//! No `unsafe` is needed for any of that.
//!
//! # Examples
//!
//! A file that is a number, and stays one. `kernel/liveupdate/rust/driver/examples/` has a whole
//! driver and its tests.
//!
//! ```
//! use kernel::{
//!     fs::File,
//!     liveupdate::{
//!         anon::{AnonFile, AnonType},
//!         FileHandler, Handle, Preserved,
//!     },
//!     liveupdate_handler,
//!     prelude::*,
//!     sync::aref::ARef,
//! };
//!
//! struct Ticket(u64);
//!
//! #[vtable]
//! impl AnonFile for Ticket {
//!     const NAME: &'static CStr = c"[ticket]";
//! }
//!
//! static TICKETS: AnonType<Ticket> = AnonType::new();
//!
//! struct TicketHandler;
//!
//! #[vtable]
//! impl FileHandler for TicketHandler {
//!     const COMPATIBLE: &'static CStr = c"ticket-v1";
//!     type Handle = Handle<u64>;
//!     type Live = Preserved<u64>;
//!
//!     fn can_preserve(file: &File) -> bool {
//!         TICKETS.of(file).is_some()
//!     }
//!
//!     fn preserve(file: &File) -> Result<(Self::Handle, Self::Live)> {
//!         let ticket = TICKETS.of(file).ok_or(EINVAL)?;
//!         let live = Preserved::new(ticket.0)?;
//!         Ok((live.handle(), live))
//!     }
//!
//!     fn retrieve(handle: Self::Handle) -> Result<ARef<File>> {
//!         let number = *handle.take()?;
//!         TICKETS.create(Ticket(number))
//!     }
//! }
//!
//! liveupdate_handler! {
//!     static HANDLER: TicketHandler;
//! }
//!
//! let registration = HANDLER.register_if_enabled()?;
//! # drop(registration);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Order of events
//!
//! In the old kernel:
//!
//! - [`needs`] and [`preserve`], when userspace asks. The workload runs on.
//! - If userspace changes its mind, the [`Live`] state is dropped: **drop is the undo.**
//! - [`needs`] and [`freeze`], inside reboot(2), in the order of preservation. If anything fails,
//!   what was frozen sees [`unfreeze`], in reverse order, and the system runs on.
//! - The kexec. Nothing is dropped: the live state is gone together with its kernel.
//!
//! In the new kernel:
//!
//! - [`retrieve`], once and in any order, when userspace asks.
//! - [`can_finish`] for all files of the session, then [`finish`], in reverse order, also for files
//!   that nobody asked for.
//!
//! C header: [`include/linux/liveupdate.h`](srctree/include/linux/liveupdate.h)
//!
//! [`Live`]: FileHandler::Live
//! [`needs`]: FileHandler::needs
//! [`preserve`]: FileHandler::preserve
//! [`freeze`]: FileHandler::freeze
//! [`unfreeze`]: FileHandler::unfreeze
//! [`retrieve`]: FileHandler::retrieve
//! [`can_finish`]: FileHandler::can_finish
//! [`finish`]: FileHandler::finish

use crate::{
    bindings,
    ffi::c_char,
    str::CStr, //
};

pub mod anon;
pub mod array;
#[doc(hidden)]
pub mod declare;
mod flb;
mod handle;
mod handler;
#[doc(hidden)]
pub mod layout;
mod needs;
pub mod record;
mod redeem;
pub mod slab;
#[cfg(CONFIG_KUNIT)]
mod slab_tests;
#[cfg(CONFIG_KUNIT)]
pub mod testing;

pub use self::{
    flb::{
        Flb,
        FlbSlot,
        Incoming,
        Outgoing, //
    },
    handle::{
        AnyHandle,
        Handle,
        Number,
        Preserved,
        Restored, //
    },
    handler::{
        Family,
        FileHandler,
        HandlerSlot,
        Registration,
        Retrieval, //
    },
    needs::Needs,
    redeem::{
        PreservedArea,
        PreservedRecord,
        RecordHandle,
        RestoredArea, //
    }, //
};

/// Whether this kernel was told to do live updates, by `liveupdate=on` on its command line.
///
/// If not, nothing can be registered, preserved or retrieved, and trying gives [`EOPNOTSUPP`].
///
/// [`EOPNOTSUPP`]: crate::error::code::EOPNOTSUPP
#[inline]
pub fn enabled() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::liveupdate_enabled() }
}

/// Bytes in which the name of a handler or an FLB is handed over, with the NUL that ends it.
const NAME_LENGTH: usize = 48;

const _: () = assert!(bindings::LIVEUPDATE_HNDL_COMPAT_LENGTH as usize == NAME_LENGTH);
const _: () = assert!(bindings::LIVEUPDATE_FLB_COMPAT_LENGTH as usize == NAME_LENGTH);

/// The name in the form in which it is handed over. Evaluated by the compiler alone, which refuses
/// a name that is empty or too long.
const fn name_bytes(name: &CStr) -> [c_char; NAME_LENGTH] {
    let from = name.to_bytes();
    assert!(!from.is_empty(), "a compatible string may not be empty");
    assert!(
        from.len() < NAME_LENGTH,
        "a compatible string has at most 47 bytes"
    );
    let mut to = [0; NAME_LENGTH];
    let mut at = 0;
    while at < from.len() {
        to[at] = from[at];
        at += 1;
    }
    to
}

/// Declares a [`HandlerSlot`]: its format stands in the catalogue of formats that the kernel has,
/// or in what modinfo(8) shows of the module.
///
/// The format is [`FileHandler::COMPATIBLE`], parted into name and version: `memfd-v2` is version 2
/// of `memfd`. Two declarations of one version of one format in a kernel fail its build.
///
/// A handler whose format has more versions, each with a handler, is declared `in` their
/// [`Family`]. The newest that the next kernel reads is written; what was preserved before that was
/// known is [rewritten](FileHandler::rewrite).
///
/// ```ignore
/// liveupdate_handler! {
///     /// What the attributes say.
///     static HANDLER: CounterHandler;
/// }
///
/// static FAMILY: Family<PreservedRing> = Family::new();
///
/// liveupdate_handler! {
///     static RING_2: RingHandler2, in FAMILY;
/// }
/// ```
#[macro_export]
macro_rules! liveupdate_handler {
    ($(#[$attr:meta])* $vis:vis static $slot:ident: $handler:ty;) => {
        $(#[$attr])*
        $vis static $slot: $crate::liveupdate::HandlerSlot<$handler> =
            $crate::liveupdate::HandlerSlot::__new(None);

        $crate::__liveupdate_declare!($handler, FileHandler);
    };
    ($(#[$attr:meta])* $vis:vis static $slot:ident: $handler:ty, in $family:path;) => {
        $(#[$attr])*
        $vis static $slot: $crate::liveupdate::HandlerSlot<$handler> =
            $crate::liveupdate::HandlerSlot::__new(Some(&$family));

        $crate::__liveupdate_declare!($handler, FileHandler);
    };
}

/// Declares an [`FlbSlot`], as [`liveupdate_handler!`] declares a handler's.
///
/// [`liveupdate_handler!`]: crate::liveupdate_handler
#[macro_export]
macro_rules! liveupdate_flb {
    ($(#[$attr:meta])* $vis:vis static $slot:ident: $flb:ty;) => {
        $(#[$attr])*
        $vis static $slot: $crate::liveupdate::FlbSlot<$flb> =
            $crate::liveupdate::FlbSlot::__new();

        $crate::__liveupdate_declare!($flb, Flb);
    };
}

/// The fingerprint of structs, each with all its fields, for [`FileHandler::LAYOUT`]: it changes
/// when a field moves, grows, or has another name.
///
/// ```ignore
/// const LAYOUT: u32 = liveupdate_layout!(CounterRecord { next });
/// ```
#[macro_export]
macro_rules! liveupdate_layout {
    ($($structs:tt)+) => {
        $crate::__liveupdate_fingerprint!([$crate::liveupdate::layout] $($structs)+)
    };
}

/// Declares a struct that is handed over: a format with versions, whose fields have fixed places.
///
/// The struct has the trait [`Handover`]: [`encode`] writes it in any version, [`decode`] reads any
/// version up to the newest one. What its fields may be, and their bytes: [`Wire`].
///
/// A field that came later stands behind all that were there. `since` is the version in which it
/// came, and `default` what it is in older records. Only a value that is its default can be written
/// as an older version.
///
/// `layouts` pins the fingerprint of each version. The build fails when a layout is not the one
/// that is pinned, and says which number is expected: a version that was in a kernel must never
/// change, and the number of a new version is the one that the compiler names. Attributes of the
/// struct pass.
///
/// # Examples
///
/// ```
/// use kernel::{
///     handover_struct,
///     liveupdate::record::{
///         Fault,
///         Handover, //
///     },
///     prelude::*, //
/// };
///
/// handover_struct! {
///     /// A queue of a device.
///     #[derive(Debug, PartialEq)]
///     struct Queue("doc-queue") version 2 layouts [0x4418c45e, 0xb004ace8] {
///         /// Entry that is served next.
///         next: u16,
///         name: [u8; 8],
///         /// Entries that are served at once.
///         #[since(2, default = 1)]
///         burst: u16,
///     }
/// }
///
/// let queue = Queue { next: 7, name: *b"receive\0", burst: 1 };
/// // What a kernel of version 1 wrote, and can read.
/// let old = queue.encode(1)?;
/// assert_eq!(Queue::decode(&old), Ok(queue));
/// // It knows of no bursts.
/// let queue = Queue { next: 7, name: *b"receive\0", burst: 4 };
/// assert_eq!(queue.encode(1), Err(Fault::Unsaid("burst")));
/// // Bytes that nobody wrote.
/// assert_eq!(Queue::decode(&[0; 40]), Err(Fault::Version));
/// # Ok::<(), Error>(())
/// ```
///
/// [`Handover`]: crate::liveupdate::record::Handover
/// [`encode`]: crate::liveupdate::record::Handover::encode
/// [`decode`]: crate::liveupdate::record::Handover::decode
/// [`Wire`]: crate::liveupdate::record::Wire
#[macro_export]
macro_rules! handover_struct {
    ($($struct:tt)+) => {
        $crate::__handover_struct!([$crate::liveupdate::record] $($struct)+);
    };
}

/// Declares a format that no handler has: that of the objects of a slab cache, most often.
///
/// It is a compatible string, with name and version, and the fingerprint of the layout. It stands
/// in the catalogue as those of handlers do, where `formats compare` finds a layout that changed
/// and kept its version. No update is refused for it: nobody knows whether there is anything of it
/// to hand over.
///
/// ```ignore
/// liveupdate_format!(c"mydev-requests-v1", liveupdate_layout!(Request { id, state }));
/// ```
#[macro_export]
#[allow(clippy::crate_in_macro_def)]
macro_rules! liveupdate_format {
    ($compatible:expr, $layout:expr) => {
        const _: () = {
            use $crate::liveupdate::declare::{
                Declared,
                Line, //
            };
            #[cfg(MODULE)]
            const OWNER: Option<&[u8]> = None;
            // The one that uses this, not the one that has it.
            #[cfg(not(MODULE))]
            const OWNER: Option<&[u8]> =
                Some(<crate::LocalModule as $crate::ModuleMetadata>::NAME.to_bytes());
            const COMPATIBLE: &$crate::str::CStr = $compatible;
            const LINE: Line = Line::new(
                OWNER,
                &Declared::compatible(COMPATIBLE.to_bytes(), "rw", $layout),
            );
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static DECLARATION: [u8; LINE.len()] = LINE.bytes();
        };
    };
}

/// What the macros above put into `.modinfo`.
#[doc(hidden)]
#[macro_export]
macro_rules! __liveupdate_declare {
    ($type:ty, $trait:ident) => {
        const _: () = {
            use $crate::liveupdate::{
                declare::{
                    Declared,
                    Line, //
                },
                $trait, //
            };
            #[cfg(MODULE)]
            const OWNER: Option<&[u8]> = None;
            #[cfg(not(MODULE))]
            const OWNER: Option<&[u8]> =
                Some(<<$type as $trait>::OwnerModule as $crate::ModuleMetadata>::NAME.to_bytes());
            const COMPATIBLE: &$crate::str::CStr = <$type as $trait>::COMPATIBLE;
            const FIELDS: &[$crate::liveupdate::record::Entry] = <$type as $trait>::FIELDS;
            const FORMAT: Declared =
                Declared::compatible(COMPATIBLE.to_bytes(), "rw", <$type as $trait>::LAYOUT);
            /// The fields decide, where they are known.
            const LAYOUT: u32 = match FIELDS {
                [] => FORMAT.layout,
                fields => $crate::liveupdate::record::layout(fields, FORMAT.version),
            };
            const LINE: Line = Line::new(
                OWNER,
                &Declared {
                    layout: LAYOUT,
                    ..FORMAT
                },
            );
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static DECLARATION: [u8; LINE.len()] = LINE.bytes();

            const TABLE: $crate::liveupdate::record::FieldsLine =
                $crate::liveupdate::record::FieldsLine::new(
                    OWNER,
                    FORMAT.name,
                    FORMAT.version,
                    FIELDS,
                );
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static FIELDS_OF: [u8; TABLE.len()] = TABLE.to();
        };
    };
}
