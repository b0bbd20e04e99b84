// SPDX-License-Identifier: GPL-2.0

//! vmalloc chunks and block chains, wrong in any way, restored from.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| liveupdate::fuzzing::chains(data));
