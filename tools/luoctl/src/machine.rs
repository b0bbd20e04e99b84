// SPDX-License-Identifier: GPL-2.0
//! What an update asks of the machine and does to it: a trait, so that tests can have a machine of
//! their own.

use crate::cli::LoadOptions;
use crate::ending::MayNot;
use crate::load::{load_kernel, Loaded};
use crate::report::Report;
use crate::sysfs::{self, Listed};
use crate::{luod, sys};
use anyhow::{ensure, Context, Result};
use rustix::system::{reboot, RebootCommand};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first systemd that gives luod's sessions back after the kexec.
const SYSTEMD: u32 = 261;

pub trait Machine {
    /// The file that only one luoctl has locked.
    fn lock(&self) -> PathBuf;
    fn load(&self, report: &Report, kernel: &Path, options: &LoadOptions) -> Result<Loaded>;
    fn unload(&self) -> io::Result<()>;
    fn kexec_loaded(&self) -> bool;
    fn sessions(&self) -> Result<Vec<Listed>, MayNot>;
    /// Where luod is installed.
    fn luod_installed(&self) -> Option<PathBuf>;
    /// What the service manager calls its version.
    fn systemd(&self) -> Result<String>;
    /// Has systemd shut down and do the kexec.
    fn shut_down(&self) -> Result<()>;
    /// Goes to the next kernel; an error if it comes back.
    fn jump(&self) -> String;
}

/// This one.
pub struct This;

impl Machine for This {
    fn lock(&self) -> PathBuf {
        crate::lock::PATH.into()
    }

    fn load(&self, report: &Report, kernel: &Path, options: &LoadOptions) -> Result<Loaded> {
        load_kernel(report, kernel, options)
    }

    fn unload(&self) -> io::Result<()> {
        sys::kexec_unload()
    }

    fn kexec_loaded(&self) -> bool {
        sysfs::kexec_loaded()
    }

    fn sessions(&self) -> Result<Vec<Listed>, MayNot> {
        sysfs::sessions()
    }

    fn luod_installed(&self) -> Option<PathBuf> {
        luod::installed(Path::new("/"))
    }

    fn systemd(&self) -> Result<String> {
        ensure!(
            Path::new("/run/systemd/system").exists(),
            "systemd does not run here"
        );
        let output = Command::new("systemctl")
            .args(["show", "--property=Version", "--value"])
            .output()
            .context("cannot run systemctl")?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(
            output.status.success() && !said.is_empty(),
            "systemd does not say which version it is"
        );
        Ok(said)
    }

    fn shut_down(&self) -> Result<()> {
        let done = Command::new("systemctl").arg("kexec").status();
        let done = done.context("cannot run systemctl")?;
        ensure!(done.success(), "systemctl kexec failed ({done})");
        Ok(())
    }

    fn jump(&self) -> String {
        let error = match reboot(RebootCommand::Kexec) {
            Ok(()) => "it came back".to_owned(),
            Err(errno) => errno.to_string(),
        };
        match sysfs::value("last_error").filter(|word| !word.is_empty()) {
            Some(word) => format!("{error} ({word})"),
            None => error,
        }
    }
}

/// Whether a systemd of this version can take sessions over the kexec.
///
/// # Errors
///
/// It cannot; which one is there is said.
pub fn able(version: &str) -> Result<()> {
    let digits: String = version
        .chars()
        .skip_while(|one| !one.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    ensure!(
        digits.parse::<u32>().is_ok_and(|number| number >= SYSTEMD),
        "--systemd needs systemd {SYSTEMD} or newer, which keeps sessions over the kexec; this one is {}. Update without \
         --systemd",
        crate::report::plain(version)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_systemd_is_named() {
        for old in ["252.38-1~deb12u1", "260", "v259.1", "", "x"] {
            let said = able(old).expect_err("too old").to_string();
            assert!(said.contains(old) && said.contains("261"), "{said}");
        }
        for new in ["261", "262~rc1", "v300.2-1"] {
            able(new).expect("new enough");
        }
    }
}
