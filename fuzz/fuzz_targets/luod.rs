// SPDX-License-Identifier: GPL-2.0

//! What three clients say to luod.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| luod::fuzzing::lines(data));
