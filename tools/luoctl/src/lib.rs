// SPDX-License-Identifier: GPL-2.0
//! luoctl: what its commands are, and what they do. A library, so that man pages, completions and tests are made of the same.

#![deny(missing_docs)]

pub mod cli;
mod command_line;
mod device;
mod files;
mod formats;
mod hold;
mod image;
mod list;
mod load;
mod manifest;
mod report;
mod run;
mod status;
mod sys;
mod sysfs;
mod update;

use cli::{Arguments, Command};
use report::Report;

/// What went wrong, and what to do about it; ends the program with exit code 1.
pub type Result<T> = anyhow::Result<T>;

/// Does what the command line says. The result of a check is the value; the rest is done, or is an error.
///
/// # Errors
///
/// It could not be done; nothing is half done, or the error says what is.
pub fn run(arguments: Arguments) -> Result<bool> {
    let report = Report::new(arguments.json);
    let socket = &arguments.socket;
    let done = match arguments.command {
        Command::Status => status::run(&report, socket),
        Command::Load(load) => load::run(&report, &load),
        Command::Unload => load::unload(&report),
        Command::List => list::run(&report),
        Command::Preserve {
            session,
            files,
            foreground,
        } => files::preserve(&report, &session, &files, foreground),
        Command::Retrieve { session, to } => files::retrieve(&report, &session, &to),
        Command::Run {
            session,
            retrieve,
            command,
        } => run::run(&session, retrieve, &command),
        Command::Finish { session } => files::finish(&report, &session),
        Command::Discard { session } => files::discard(&report, &session),
        Command::Update(update) => update::run(&report, socket, &update),
        Command::Formats { image, unknown } => {
            formats::run(&report, image.as_deref(), unknown.is_some())
        }
        Command::Check {
            kernels,
            cmdline,
            without,
            unknown,
        } => {
            let (cmdline, unknown) = (cmdline.as_deref(), unknown.is_some());
            return formats::judge(&report, &kernels, cmdline, &without, unknown);
        }
        Command::Hold { .. } => hold::hold(),
    };
    done.map(|()| true)
}
