// SPDX-License-Identifier: GPL-2.0
//! `kernel-tree`: gets the kernel source and its tools, integrates our tree, builds and checks.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use kernel_tree::integrate::{integrate, unintegrate};
use kernel_tree::{
    cache_dir, check, clean, docs, ensure_kernel, ensure_packages, ensure_source, kernel,
    project_root, Steps, Tree,
};

/// Gets the kernel source and its tools, integrates our tree into it, builds and checks.
#[derive(Parser)]
#[command(name = "kernel-tree", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the packages that are missing and get the kernel trees
    Setup,
    /// Put our code into a Linux 7.3 tree
    Integrate {
        /// The tree
        #[arg(long, value_name = "PATH")]
        linux: PathBuf,
    },
    /// Take our code out of a tree again, which is then as it was
    Unintegrate {
        /// The tree
        #[arg(long, value_name = "PATH")]
        linux: PathBuf,
    },
    /// Build a kernel in the cache
    Build {
        #[arg(long, value_enum, default_value = "ours")]
        tree: TreeArg,
        /// The name of a file in kernel-configs
        #[arg(long, default_value = "test")]
        config: String,
    },
    /// Build our kernel with options of your own, and leave bzImage, vmlinux and config in a folder
    Kernel {
        /// Lines of a .config, put on top of what our kernel needs
        #[arg(long, value_name = "FRAGMENT")]
        config: Option<PathBuf>,
        /// The folder; it is created
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Check formatting, lints, license lines, and warnings under each of our options
    Check,
    /// Build the documentation into target/docs; warnings are errors
    Docs,
    /// Remove what was built
    Clean {
        /// Also what was downloaded and unpacked
        #[arg(long)]
        all: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum TreeArg {
    Ours,
    Mainline,
    Older,
}

impl From<TreeArg> for Tree {
    fn from(arg: TreeArg) -> Self {
        match arg {
            TreeArg::Ours => Tree::Ours,
            TreeArg::Mainline => Tree::Mainline,
            TreeArg::Older => Tree::Older,
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("kernel-tree: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let steps = Steps::new(cache_dir().join("log"));
    match command {
        Command::Setup => {
            ensure_packages(&steps)?;
            ensure_source(Tree::Ours, &steps)?;
            ensure_source(Tree::Mainline, &steps)?;
            ensure_source(Tree::Older, &steps)?;
            println!("all is in place, in {}", cache_dir().display());
        }
        Command::Integrate { linux } => {
            let changes = integrate(&project_root(), &whole(&linux)?)?;
            println!("{}: {}", linux.display(), changes.summary());
        }
        Command::Unintegrate { linux } => {
            let changes = unintegrate(&whole(&linux)?)?;
            println!("{}: {}", linux.display(), changes.summary());
        }
        Command::Build { tree, config } => {
            ensure_packages(&steps)?;
            let kernel = ensure_kernel(tree.into(), &config, &steps)?;
            println!("Linux {}: {}", kernel.release, kernel.bzimage.display());
        }
        Command::Kernel { config, out } => {
            ensure_packages(&steps)?;
            kernel::kernel_for_user(config.as_deref(), &out, &steps)?;
        }
        Command::Check => {
            ensure_packages(&steps)?;
            check::check(&steps)?;
        }
        Command::Docs => {
            ensure_packages(&steps)?;
            docs::docs(&steps)?;
        }
        Command::Clean { all } => clean::clean(all, &steps)?,
    }
    Ok(())
}

/// The path from the root, so that messages name it in full.
fn whole(path: &Path) -> Result<PathBuf> {
    let here = env::current_dir().context("the current folder is gone")?;
    Ok(here.join(path))
}
