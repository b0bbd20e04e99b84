// SPDX-License-Identifier: GPL-2.0
//! luoctl: reads its command line and does what it says.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = luoctl::cli::Arguments::parse();
    let json = arguments.json;
    match luoctl::run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if json {
                println!("{}", serde_json::json!({"error": format!("{error:#}")}));
            }
            eprintln!("luoctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
