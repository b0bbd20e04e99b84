// SPDX-License-Identifier: GPL-2.0

//! The orchestrator's root, FLBs, sessions and files, wrong in any way, received.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| liveupdate::fuzzing::luo(data));
