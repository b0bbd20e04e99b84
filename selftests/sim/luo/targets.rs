// SPDX-License-Identifier: GPL-2.0

//! What is fuzzed of the orchestrator: any words of its pages, and of a stranger's that may be made
//! to look like them.

use super::sample::sample;
use crate::kho::addr::PhysAddr;
use crate::sim::targets::patch;

/// The pages that may be patched: root, FLBs, the files' blocks, the list's, then the stranger's.
pub(crate) fn pages() -> Vec<PhysAddr> {
    let own = sample().pages.iter().map(|page| page.at);
    own.chain(sample().stranger.iter().copied()).collect()
}

/// Receives a damaged sample and does one more update.
pub(crate) fn luo(data: &[u8]) {
    let pages = pages();
    sample().boot(|_| patch(&pages, data));
}
