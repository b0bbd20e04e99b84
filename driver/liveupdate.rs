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
//! 2. declares a `static` [`HandlerSlot`] of that type, and
//! 3. registers it, which gives a [`Registration`] to keep in its module.
//!
//! What is handed over is a struct of plain bytes in [`Preserved`] memory. Its [`Handle`] is all
//! that LUO stores; with it, the next kernel takes the memory back as [`Restored`].
//! State that many files share is an [`Flb`], and lives as long as any file that needs it.
//!
//! No `unsafe` is needed for any of that.
//!
//! # Examples
//!
//! A file that is a number, and stays one. `kernel/liveupdate/rust/driver/examples/` has a whole driver
//! and its tests.
//!
//! ```
//! use kernel::{
//!     fs::File,
//!     liveupdate::{
//!         anon::{AnonFile, AnonType},
//!         FileHandler, Handle, HandlerSlot, Preserved,
//!     },
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
//! static HANDLER: HandlerSlot<TicketHandler> = HandlerSlot::new();
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
//! - [`needs`] and [`freeze`], inside reboot(2), in the order of preservation. If anything fails, what
//!   was frozen sees [`unfreeze`], in reverse order, and the system runs on.
//! - The kexec. Nothing is dropped: the live state is gone together with its kernel.
//!
//! In the new kernel:
//!
//! - [`retrieve`], once and in any order, when userspace asks.
//! - [`can_finish`] for all files of the session, then [`finish`], in reverse order, also for files that nobody asked for.
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
mod flb;
mod handle;
mod handler;
mod needs;
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
        FileHandler,
        HandlerSlot,
        Registration,
        Retrieval, //
    },
    needs::Needs, //
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
