// SPDX-License-Identifier: GPL-2.0
//! `make install` and `make deb`: builds luod, luoctl and formats statically, makes their man pages
//! and completions, and puts all in place.

mod deb;
mod pages;
mod place;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "packaging", about = "Installs and packages luod and luoctl")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Puts programs, unit, configuration, man pages and completions below a prefix
    Install {
        /// Where to: /usr/local, /usr
        #[arg(long, default_value = "/usr/local")]
        prefix: PathBuf,
        /// A folder that is put before all paths, for packagers
        #[arg(long, default_value = "/")]
        destdir: PathBuf,
    },
    /// Removes what was installed, but not the configuration
    Uninstall {
        /// Where from
        #[arg(long, default_value = "/usr/local")]
        prefix: PathBuf,
        /// A folder that is put before all paths, for packagers
        #[arg(long, default_value = "/")]
        destdir: PathBuf,
    },
    /// Makes a Debian package; the last line is its path
    Deb {
        /// Folder that it is put into
        #[arg(long, default_value = "target/deb")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Install { prefix, destdir } => {
            let programs = place::build()?;
            let count = place::install(&programs, &destdir, &prefix)?;
            println!("{count} files are installed below {}", prefix.display());
            println!("next, as root: systemd-sysusers luod.conf && systemctl enable --now luod");
        }
        Command::Uninstall { prefix, destdir } => {
            let count = place::uninstall(&destdir, &prefix)?;
            println!("{count} files are removed; /etc/luod.toml and the group luod stay");
        }
        Command::Deb { out } => println!("{}", deb::make(&out)?.display()),
    }
    Ok(())
}
