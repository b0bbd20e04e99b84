// SPDX-License-Identifier: GPL-2.0

//! The orchestrator on the simulated machine, with drivers that do as a test says.
//!
//! [`lab`] has the drivers, [`world`] a kernel with all of it. [`model`] runs random operations
//! against plain lists, [`faults`] has every allocation and every call of a driver fail. [`sample`]
//! is a handover that [`flips`] damages bit by bit, [`lies`] in particular ways, and [`targets`] as
//! a fuzzer wants it; [`survey`] takes what can still be had. [`golden`] pins bytes, [`cost`]
//! counts, [`formats`] settles who writes what for whom.

#[cfg(test)]
mod cost;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod golden;
mod lab;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod model;
mod sample;
mod survey;
pub(crate) mod targets;
mod world;
