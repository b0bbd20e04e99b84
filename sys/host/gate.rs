// SPDX-License-Identifier: GPL-2.0

//! The gate between operating and frozen. A simulated kernel has one thread, so who would wait for
//! ever ends the test.

use std::cell::Cell;

use super::lock::{take, Held};
use crate::sys::error::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open(u32),
    Closed,
}

/// The gate.
pub(crate) struct Gate(Cell<State>);

/// Proof that the gate is open, and stays open.
pub(crate) struct Operating<'a>(&'a Gate, Held);

impl Gate {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(State::Open(0)))
    }

    pub(crate) fn enter(&self) -> Result<Operating<'_>> {
        Ok(self.enter_always())
    }

    pub(crate) fn enter_always(&self) -> Operating<'_> {
        let held = take("gate");
        match self.0.get() {
            State::Open(inside) => self.0.set(State::Open(inside + 1)),
            State::Closed => panic!("waits for ever at a closed gate"),
        }
        Operating(self, held)
    }

    pub(crate) fn close(&self) {
        // Nobody may hold a lock of ours and wait here.
        drop(take("gate"));
        assert_eq!(self.0.get(), State::Open(0), "waits for ever to close");
        self.0.set(State::Closed);
    }

    pub(crate) fn open(&self) {
        assert_eq!(self.0.get(), State::Closed);
        self.0.set(State::Open(0));
    }
}

impl Drop for Operating<'_> {
    fn drop(&mut self) {
        match self.0 .0.get() {
            State::Open(inside) => self.0 .0.set(State::Open(inside - 1)),
            State::Closed => unreachable!("closed with somebody inside"),
        }
    }
}
