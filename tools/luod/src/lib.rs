// SPDX-License-Identifier: GPL-2.0
//! luod takes services through a live update: it asks them to preserve what they need, keeps their
//! sessions until the kexec, and gives them back after it. `Documentation/luod-protocol.rst` is
//! what it speaks.
//!
//! [`machine`] decides and does nothing, [`perform`] uses the device, [`server`] talks.

#![deny(missing_docs)]

pub mod catalogue;
pub mod cli;
pub mod config;
mod connection;
pub mod device;
#[doc(hidden)]
pub mod fuzzing;
pub mod inherit;
pub mod kept;
pub mod kernel;
mod loglimit;
pub mod machine;
mod manager;
mod note;
pub mod peer;
pub mod perform;
pub mod server;
pub mod store;
