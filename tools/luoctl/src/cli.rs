// SPDX-License-Identifier: GPL-2.0
//! luoctl's command line, from which its man pages and completions are made too. The examples in it
//! are run by a test.

use clap::{Args, Parser, Subcommand, ValueEnum};
use liveupdate_uapi::Name;
use std::path::PathBuf;

/// Drives live updates: a new kernel takes over, and what was preserved is still in memory
#[derive(Debug, Parser)]
#[command(
    name = "luoctl",
    version,
    after_long_help = "\
Examples:
  luoctl status
  luoctl preserve backup /etc/fstab
  luoctl discard backup

Exit codes:
  0: done
  1: not done, or the answer is no; the reason is said
  2: the command line is wrong
  4: this user may not, or may not look at all of it; run luoctl as root
  129, 130, 141, 143: SIGHUP, SIGINT, a closed pipe or SIGTERM ended it; an update is called off completely"
)]
pub struct Arguments {
    /// Report in JSON: one object, or one a line where things happen one after the other
    #[arg(long, global = true)]
    pub json: bool,
    /// luod's socket
    #[arg(long, global = true, value_name = "PATH", default_value = luo_client::SOCKET, value_parser = socket)]
    pub socket: PathBuf,
    #[allow(missing_docs)]
    #[command(subcommand)]
    pub command: Command,
}

/// What luoctl can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether live update is on, what was before, what is preserved, and what luod is doing
    #[command(after_long_help = "\
Examples:
  luoctl status
  luoctl status --json")]
    Status,
    /// Load the kernel that the next update goes to
    ///
    /// Before loading, it is checked that the image is one, that it and the initramfs fit into this
    /// kernel's scratch areas, that it reads what this kernel writes, and that the command line
    /// turns live update on. What has to be changed is said.
    #[command(after_long_help = "\
Examples:
  luoctl load /boot/vmlinuz --initrd /boot/initrd.img --reuse-cmdline
  luoctl load /boot/vmlinuz --initrd /boot/initrd.img --cmdline \"kho=on liveupdate=on console=ttyS0\"")]
    Load(Load),
    /// Forget the loaded kernel
    #[command(after_long_help = "\
Examples:
  luoctl unload")]
    Unload,
    /// List the sessions that have arrived and those that go to the next kernel
    ///
    /// Where the kernel does not list them (mainline's), those are shown that a process has open.
    #[command(after_long_help = "\
Examples:
  luoctl list
  luoctl list --json")]
    List,
    /// Preserve files in a session
    ///
    /// The contents are copied into memory that goes to the next kernel, with size, mode and a
    /// checksum. A process in the background keeps the session open; `luoctl discard` ends it.
    #[command(after_long_help = "\
Examples:
  luoctl preserve backup /etc/fstab /etc/hostname
  luoctl discard backup")]
    Preserve {
        /// Name of the session
        #[arg(value_parser = session)]
        session: String,
        /// Files to preserve; their names must differ
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Keep the session open in this process, until it is interrupted
        #[arg(long)]
        foreground: bool,
    },
    /// Write the files that have arrived in a session
    ///
    /// Size, mode and checksum are checked. Files that exist are not overwritten. If something
    /// fails, the session stays open in a process in the background, and the command can be
    /// repeated.
    #[command(after_long_help = "\
Examples (after an update):
  luoctl retrieve backup --to /tmp/backup")]
    Retrieve {
        /// Name of the session
        #[arg(value_parser = session)]
        session: String,
        /// Folder to write them into; made if it is not there
        #[arg(long, value_name = "DIR", default_value = ".")]
        to: PathBuf,
    },
    /// Run a command that has a session open
    ///
    /// The number of the session's descriptor is in the variable LUO_SESSION_FD, its name in
    /// LUO_SESSION_NAME. The command takes luoctl's place; the session ends with it.
    #[command(after_long_help = "\
Examples:
  luoctl run vm-7 -- sh -c 'test -e /proc/self/fd/$LUO_SESSION_FD'")]
    Run {
        /// Name of the session
        #[arg(value_parser = session)]
        session: String,
        /// One that has arrived, instead of a new one
        #[arg(long)]
        retrieve: bool,
        /// The command and its arguments
        #[arg(required = true, last = true, value_name = "CMD")]
        command: Vec<std::ffi::OsString>,
    },
    /// Finish a session that has arrived: what nobody has retrieved from it is freed
    #[command(after_long_help = "\
Examples (after an update):
  luoctl finish old-backup")]
    Finish {
        /// Name of the session
        #[arg(value_parser = session)]
        session: String,
    },
    /// Give up a session that `luoctl preserve` keeps open
    #[command(after_long_help = "\
Examples:
  luoctl preserve backup /etc/fstab
  luoctl discard backup")]
    Discard {
        /// Name of the session
        #[arg(value_parser = session)]
        session: String,
    },
    /// Do a live update: load, ask the services, wait, freeze, go to the next kernel
    ///
    /// A line is printed for each phase, with its time. Ctrl-C before the last one undoes
    /// everything, and so does a closed pipe or a signal that ends luoctl: services are told to go
    /// on, and the kernel that this command loaded is forgotten. Only one luoctl at a time can
    /// load, unload or update; another one says who is at it and changes nothing.
    ///
    /// The jump is immediate, as with `kexec -e`: file systems are synced, not unmounted, and
    /// services are not stopped.
    #[command(after_long_help = "\
Examples:
  luoctl update /boot/vmlinuz --initrd /boot/initrd.img --reuse-cmdline --dry-run
  luoctl update /boot/vmlinuz --initrd /boot/initrd.img --reuse-cmdline")]
    Update(Update),
    /// Call off the update that is under way, whoever drives it
    ///
    /// Services are told to go on. So it is with one that waits for systemd to do the kexec. If
    /// there is none, nothing happens.
    #[command(after_long_help = "\
Examples:
  luoctl abort")]
    Abort,
    /// Say which formats a kernel reads and writes: the one that runs, or that of an image
    #[command(after_long_help = "\
Examples:
  luoctl formats
  luoctl formats /boot/vmlinuz --json")]
    Formats {
        /// A kernel's image, of any kind; without one, the kernel that runs
        #[arg(value_name = "IMAGE")]
        image: Option<PathBuf>,
        /// What an image without a catalogue and of an unknown release is taken for
        #[arg(long, value_name = "WHAT")]
        unknown: Option<Unknown>,
    },
    /// Say whether one kernel can update to another, and which versions of the formats would be
    /// written
    ///
    /// Nothing is loaded. The exit code is 1 if it cannot be, and why not is said.
    #[command(after_long_help = "\
Examples:
  luoctl check /boot/vmlinuz --cmdline \"kho=on liveupdate=on\"
  luoctl check /boot/vmlinuz /boot/vmlinuz --without memfd")]
    Check {
        /// The kernel to update from, if it is not the one that runs, and the one to update to
        #[arg(required = true, num_args = 1..=2, value_name = "KERNEL")]
        kernels: Vec<PathBuf>,
        /// The new kernel's command line
        #[arg(long, value_name = "TEXT")]
        cmdline: Option<String>,
        /// A format of which nothing will be preserved; can be given again
        #[arg(long, value_name = "FORMAT")]
        without: Vec<String>,
        /// What an image without a catalogue and of an unknown release is taken for
        #[arg(long, value_name = "WHAT")]
        unknown: Option<Unknown>,
    },
    /// Keep a session open
    #[command(hide = true)]
    Hold {
        /// Name of the session, for who looks at the list of processes
        session: String,
    },
}

/// What an image that says nothing of itself is taken for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Unknown {
    /// It reads and writes what mainline 7.2 and 7.3 do
    Mainline,
}

/// What to load.
#[derive(Debug, Args)]
pub struct Load {
    /// The kernel's bzImage
    #[arg(value_name = "KERNEL")]
    pub kernel: PathBuf,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: LoadOptions,
}

/// How to load.
#[derive(Debug, Args)]
pub struct LoadOptions {
    /// The initramfs
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Give the next kernel this kernel's command line
    #[arg(long, conflicts_with = "cmdline")]
    pub reuse_cmdline: bool,
    /// The next kernel's command line
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    /// What comes after that command line; where both have a word, the last one counts
    #[arg(long, value_name = "TEXT")]
    pub append: Option<String>,
    /// Load although a check says that the update will not work
    #[arg(long)]
    pub force_load: bool,
}

/// How to update.
#[derive(Debug, Args)]
pub struct Update {
    /// The kernel's bzImage; without one, the kernel that is loaded already
    #[arg(value_name = "KERNEL")]
    pub kernel: Option<PathBuf>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: LoadOptions,
    /// Seconds that services have for preserving; luod's configured time if not given
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub deadline: Option<u64>,
    /// Call it off when a service cannot take part, instead of going on without it
    #[arg(long)]
    pub strict: bool,
    /// Go on although something of the last update has not been claimed, and will be lost
    #[arg(long)]
    pub force: bool,
    /// Go on if luod does not run, although what services have may be lost
    #[arg(long)]
    pub without_luod: bool,
    /// Have systemd shut the system down and do the kexec; it must be 261 or newer, and keep
    /// sessions in its store
    #[arg(long, hide = true)]
    pub systemd: bool,
    /// Do everything but the kexec, and undo it
    #[arg(long, conflicts_with = "systemd")]
    pub dry_run: bool,
}

/// A session's name, as the kernel takes it.
fn session(text: &str) -> Result<String, String> {
    match Name::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A socket's path, as luod's configuration takes it.
fn socket(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') && text.len() < 104 {
        true => Ok(text.into()),
        false => Err("a socket has an absolute path of less than 104 bytes".into()),
    }
}

/// The lines below "Examples" in a command's help, and whether they need something that has
/// arrived.
pub fn examples() -> Vec<(String, bool)> {
    use clap::CommandFactory;
    let root = Arguments::command();
    let mut all = Vec::new();
    for command in std::iter::once(&root).chain(root.get_subcommands()) {
        let help = command
            .get_after_long_help()
            .map(|help| help.to_string())
            .unwrap_or_default();
        let mut after = false;
        for line in help.lines() {
            if line.starts_with("Examples") {
                after = line.contains("after an update");
            }
            if let Some(example) = line
                .strip_prefix("  ")
                .filter(|line| line.starts_with("luoctl "))
            {
                all.push((example.to_owned(), after));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        let all = examples();
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            if command.is_hide_set() || name == "help" {
                continue;
            }
            let begin = format!("luoctl {name}");
            assert!(
                all.iter().any(|(line, _)| line.starts_with(&begin)),
                "{name} has none"
            );
        }
    }

    #[test]
    fn a_relative_socket_is_refused() {
        for (path, good) in [("x.sock", false), ("/run/x.sock", true)] {
            let parsed = Arguments::try_parse_from(["luoctl", "--socket", path, "status"]);
            assert_eq!(parsed.is_ok(), good, "{path}");
        }
    }

    #[test]
    fn what_is_not_proven_is_not_in_the_help() {
        let mut root = Arguments::command();
        let update = root.find_subcommand_mut("update").expect("update");
        assert!(!update.render_long_help().to_string().contains("systemd"));
    }

    #[test]
    fn names_that_no_session_has_are_refused() {
        let long = "x".repeat(64);
        for bad in ["", &long] {
            let parsed = Arguments::try_parse_from(["luoctl", "finish", bad]);
            assert_eq!(parsed.expect_err("bad").exit_code(), 2);
        }
        assert!(Arguments::try_parse_from(["luoctl", "finish", "a/b"]).is_ok());
    }
}
