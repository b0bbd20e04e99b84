// SPDX-License-Identifier: GPL-2.0

//! The C face of the orchestrator: its start, drivers, /dev/liveupdate, sessions and sysfs.

mod argument;
mod device;
mod formats;
pub(super) mod orchestrator;
pub(crate) mod registry;
mod session;
mod sysfs;
