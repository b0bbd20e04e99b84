// SPDX-License-Identifier: GPL-2.0
//! How luoctl ends: exit codes, and the errors that have one of their own.

use std::fmt;

/// What a command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Done.
    Done,
    /// The answer is no.
    No,
    /// Part of it only root may look at.
    MayNotLook,
}

impl Ending {
    /// The program's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::MayNotLook => 4,
        }
    }
}

/// This user may not.
#[derive(Clone, Copy, Debug)]
pub struct MayNot(pub &'static str);

impl fmt::Display for MayNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for MayNot {}

/// A signal came, or nobody read what was said.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted(pub i32);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            libc::SIGPIPE => "nobody reads the report",
            libc::SIGINT => "interrupted",
            libc::SIGTERM => "told to end",
            _ => "the terminal is gone",
        };
        write!(f, "{what}; everything is as before")
    }
}

impl std::error::Error for Interrupted {}

/// The exit code for an error; as a shell has it for a signal.
pub fn code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<MayNot>().is_some() {
        return Ending::MayNotLook.code();
    }
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) => 128 + u8::try_from(*signal).unwrap_or(0),
        None => Ending::No.code(),
    }
}
