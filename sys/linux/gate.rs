// SPDX-License-Identifier: GPL-2.0

//! The gate between operating and frozen: many may operate, or one may freeze.

use core::marker::PhantomData;

use kernel::types::NotThreadSafe;

use super::glue;
use crate::sys::error::{to_result, Result};

/// The gate. There is one, so there is at most one orchestrator.
pub(crate) struct Gate(());

/// Proof that the gate is open, and stays open.
pub(crate) struct Operating<'a>(PhantomData<&'a Gate>, NotThreadSafe);

impl Gate {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// # Errors
    ///
    /// `EINTR` if the caller was killed while it waited.
    pub(crate) fn enter(&self) -> Result<Operating<'_>> {
        // SAFETY: May sleep, as all callers may.
        to_result(unsafe { glue::lu_gate_enter() })?;
        Ok(Operating(PhantomData, NotThreadSafe))
    }

    /// As [`Self::enter`], however long it takes.
    pub(crate) fn enter_always(&self) -> Operating<'_> {
        // SAFETY: As above.
        unsafe { glue::lu_gate_enter_always() };
        Operating(PhantomData, NotThreadSafe)
    }

    /// Waits until nobody operates, and lets nobody in.
    pub(crate) fn close(&self) {
        // SAFETY: As above.
        unsafe { glue::lu_gate_close() };
    }

    /// Undoes [`Self::close`].
    pub(crate) fn open(&self) {
        // SAFETY: Called by who closed it.
        unsafe { glue::lu_gate_open() };
    }
}

impl Drop for Operating<'_> {
    fn drop(&mut self) {
        // SAFETY: Made by `enter` on this thread, and leaves once.
        unsafe { glue::lu_gate_leave() };
    }
}
