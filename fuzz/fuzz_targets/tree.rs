// SPDX-License-Identifier: GPL-2.0

//! Nodes and keys of the radix tree, wrong in any way, booted from.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| liveupdate::fuzzing::tree(data));
