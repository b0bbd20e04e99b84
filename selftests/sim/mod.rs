// SPDX-License-Identifier: GPL-2.0

//! Whole live updates on the simulated machine, against plain models.
//!
//! [`kernel::Kernel`] is what one kernel does from boot to kexec, with the code under test for its
//! KHO; [`tree`] pits the radix tree against a set; [`update`] runs random operations over several
//! updates, with an allocation failing here and there; [`golden`] pins bytes.

mod boots;
mod golden;
mod kernel;
mod tree;
mod update;
