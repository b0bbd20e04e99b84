// SPDX-License-Identifier: GPL-2.0
//! luoctl: reads its command line and does what it says.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(luoctl::main(luoctl::cli::Arguments::parse()))
}
