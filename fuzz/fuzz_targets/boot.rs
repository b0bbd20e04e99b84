// SPDX-License-Identifier: GPL-2.0

//! A whole boot from a handover that is wrong in any way.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| liveupdate::fuzzing::boot(data));
