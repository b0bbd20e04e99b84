// SPDX-License-Identifier: GPL-2.0

//! The files about formats in /sys/kernel/liveupdate.

use core::fmt::Write;

use super::catalogue::{READ, WRITE};
use super::id::Id;
use crate::luo::window::Window;
use crate::luo::Luo;
use crate::sys::log;

/// A format as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Whether this kernel decodes it, and encodes it.
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Whether it may be written; `None` if that is not a matter of choice.
    pub(crate) enabled: Option<bool>,
    /// Files that are preserved in it; 0 of a format that is no handler's.
    pub(crate) users: u64,
}

impl Luo {
    /// A format of this kernel's; `None` if there is none.
    pub(crate) fn format(&self, format: &Id) -> Option<Shown> {
        let drivers = self.drivers.lock();
        let enabled = drivers.enabled(format);
        let access = match (self.own.get(format), enabled) {
            (Some(declared), _) => declared.access,
            (None, Some(_)) => READ | WRITE,
            (None, None) => return None,
        };
        Some(Shown {
            read: access & READ != 0,
            write: access & WRITE != 0,
            enabled,
            users: drivers.users(format),
        })
    }

    /// The formats that arrived, a line each; returns the length.
    pub(crate) fn arrived_formats(&self, to: &mut [u8]) -> usize {
        let mut text = Window::new(to);
        for (at, arrival) in self.arrivals.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            // It takes everything.
            let _ = text.write_fmt(log::fmt!(
                "{end}{} {}",
                arrival.format,
                arrival.verdict.text()
            ));
        }
        text.filled()
    }
}
