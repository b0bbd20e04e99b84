// SPDX-License-Identifier: GPL-2.0

//! The root FDT and "kexec-metadata" by themselves.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| liveupdate::fuzzing::fdt(data));
