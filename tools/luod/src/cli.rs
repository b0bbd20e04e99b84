// SPDX-License-Identifier: GPL-2.0
//! luod's command line, from which its man page is made too.

use clap::Parser;
use std::path::PathBuf;

/// The agent that takes services through a live update
///
/// luod listens on a socket. Services subscribe; when `luoctl update` asks for it, each is given a
/// session of /dev/liveupdate, preserves its memory in it and says that it is ready. luod keeps the
/// sessions until the kexec, and in the next kernel gives each service its session back.
#[derive(Debug, Parser)]
#[command(name = "luod", version, after_long_help = AFTER)]
pub struct Arguments {
    /// Configuration file [default: /etc/luod.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket to listen on, instead of the configured one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Only check the configuration; the exit code is 0 if it is good
    #[arg(long)]
    pub check: bool,
    /// Print the configuration as it is used, with what is not set in the file, as a file
    #[arg(long, conflicts_with = "check")]
    pub print_config: bool,
}

const AFTER: &str = "\
Files:
  /etc/luod.toml: what can be set
  /run/luod/liveupdate.sock: where clients connect
  /run/luod/record: what has arrived and is not finished

Settings, with their defaults:
  luod --print-config --config /dev/null

Signals:
  SIGHUP: read the configuration again; socket and group stay as they are
  SIGTERM, SIGINT: end; an update that is under way is called off, unless it is frozen and somebody else does the kexec

luod runs as root, as /dev/liveupdate is root's. It logs to standard error. With a service manager that \
has a store of descriptors (systemd: FileDescriptorStoreMax=), what has arrived outlives a luod that is killed; \
an update that is under way has to be begun again.";
