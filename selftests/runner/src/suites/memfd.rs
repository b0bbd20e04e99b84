// SPDX-License-Identifier: GPL-2.0
//! Every property of a memfd, and every failure that must leave it as it was.

use super::{run, Played};
use crate::lab::{Lab, Which};
use crate::machine::Machine;
use anyhow::Result;

/// From one kernel of a kind to another.
pub fn properties(lab: &Lab, name: &str, which: Which) -> Result<Played> {
    let machine = Machine::new(name, "memfd", which, &[which])
        .memory(1280)
        .timeout(400);
    let (played, _) = run(lab, &machine)?;
    Ok(played)
}
