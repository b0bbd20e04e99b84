// SPDX-License-Identifier: GPL-2.0
//! What every run needs: packages, the guest program, kernels made when first asked for, and a
//! folder for logs.

use crate::testbuild::{self, Selftests};
use anyhow::{bail, Context, Result};
use kernel_tree::{Steps, Tree};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// The kernels that take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Ours, as it would be released.
    Ours,
    /// Mainline's C, built from the same source with the same configuration.
    Mainline,
    /// Mainline's C of the series before.
    Older,
    /// Ours, with every check the kernel has.
    Debug,
    /// Ours, with the address sanitizer.
    Kasan,
}

impl Which {
    /// The name in /boot of the guest, and on its command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Mainline => "mainline",
            Self::Older => "older",
            Self::Debug => "debug",
            Self::Kasan => "kasan",
        }
    }

    pub fn config(self) -> &'static str {
        match self {
            Self::Ours | Self::Mainline => "test",
            Self::Older => "older",
            Self::Debug => "debug",
            Self::Kasan => "kasan",
        }
    }
}

/// Kernels that are already there and need not be built.
#[derive(clap::Args, Clone)]
pub struct OwnKernels {
    /// Use this bzImage as our kernel instead of building one
    #[arg(long, global = true, value_name = "BZIMAGE")]
    ours: Option<PathBuf>,
    /// Use this bzImage as mainline's kernel instead of building one
    #[arg(long, global = true, value_name = "BZIMAGE")]
    mainline: Option<PathBuf>,
    /// Use this bzImage as mainline's kernel of the series before instead of building one
    #[arg(long, global = true, value_name = "BZIMAGE")]
    older: Option<PathBuf>,
    /// Use this bzImage as our debug kernel instead of building one; its build folder must be
    /// around it
    #[arg(long, global = true, value_name = "BZIMAGE")]
    debug: Option<PathBuf>,
    /// Use this bzImage as our kernel with the address sanitizer instead of building one
    #[arg(long, global = true, value_name = "BZIMAGE")]
    kasan: Option<PathBuf>,
}

/// A kernel to boot.
pub struct Kernel {
    pub bzimage: PathBuf,
    pub build_dir: Option<PathBuf>,
}

pub struct Lab {
    pub steps: Steps,
    /// Where logs and images of runs go.
    pub work: PathBuf,
    pub guest: PathBuf,
    /// luod, luoctl, and the example service.
    pub programs: Programs,
    own: OwnKernels,
    kernels: Mutex<BTreeMap<Which, Arc<Kernel>>>,
    selftests: Mutex<Option<Arc<Selftests>>>,
}

impl Lab {
    /// Installs and builds what all commands need; kernels come later.
    pub fn open(own: OwnKernels) -> Result<Self> {
        Self::with(own, &EVERYTHING)
    }

    /// As `open`, without what the demo does not use, and compiled in less time.
    pub fn for_demo(own: OwnKernels) -> Result<Self> {
        Self::with(own, &FOR_DEMO)
    }

    fn with(own: OwnKernels, inside: &Inside) -> Result<Self> {
        let work = kernel_tree::project_root().join("target/live-update");
        std::fs::create_dir_all(&work)
            .with_context(|| format!("cannot create the folder {}", work.display()))?;
        let steps = Steps::new(work.join("steps"));
        kernel_tree::ensure_packages(&steps)?;
        let (guest, programs) = build_guest(&steps, inside)?;
        Ok(Self {
            steps,
            work,
            guest,
            programs,
            own,
            kernels: Mutex::new(BTreeMap::new()),
            selftests: Mutex::new(None),
        })
    }

    /// A kernel, built if it must be. Two that ask at once take turns: the machine is small.
    pub fn kernel(&self, which: Which) -> Result<Arc<Kernel>> {
        let Ok(mut kernels) = self.kernels.lock() else {
            bail!("the kernel {} could not be built", which.name());
        };
        if let Some(kernel) = kernels.get(&which) {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(self.make_kernel(which)?);
        kernels.insert(which, Arc::clone(&kernel));
        Ok(kernel)
    }

    fn make_kernel(&self, which: Which) -> Result<Kernel> {
        let (own, tree) = match which {
            Which::Ours => (&self.own.ours, Tree::Ours),
            Which::Mainline => (&self.own.mainline, Tree::Mainline),
            Which::Older => (&self.own.older, Tree::Older),
            Which::Debug => (&self.own.debug, Tree::Ours),
            Which::Kasan => (&self.own.kasan, Tree::Ours),
        };
        if let Some(bzimage) = own {
            if !bzimage.is_file() {
                bail!(
                    "there is no kernel {}; give the path of a bzImage",
                    bzimage.display()
                );
            }
            // arch/x86/boot/bzImage
            let build_dir = bzimage.ancestors().nth(4).map(Path::to_path_buf);
            return Ok(Kernel {
                bzimage: bzimage.clone(),
                build_dir,
            });
        }
        let built = kernel_tree::ensure_kernel(tree, which.config(), &self.steps)?;
        Ok(Kernel {
            bzimage: built.bzimage,
            build_dir: Some(built.build_dir),
        })
    }

    /// The kernel's own selftests, built when first asked for.
    pub fn selftests(&self) -> Result<Arc<Selftests>> {
        let Ok(mut slot) = self.selftests.lock() else {
            bail!("the kernel's selftests could not be built");
        };
        if let Some(selftests) = slot.as_ref() {
            return Ok(Arc::clone(selftests));
        }
        let selftests = Arc::new(testbuild::build(self)?);
        *slot = Some(Arc::clone(&selftests));
        Ok(selftests)
    }

    /// The folder of one run, for its log and its image.
    pub fn folder(&self, run: &str) -> Result<PathBuf> {
        let folder = self.work.join(run);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        Ok(folder)
    }
}

/// The cargo that runs us, or the one on PATH.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(kernel_tree::project_root());
    cargo
}

/// The project's own tools, linked statically.
pub struct Programs {
    pub luod: PathBuf,
    pub luoctl: PathBuf,
    pub cache: PathBuf,
}

/// What is built to run inside the machines.
struct Inside {
    profile: &'static str,
    packages: &'static [&'static str],
    /// Which programs of these packages.
    programs: &'static [&'static str],
}

const EVERYTHING: Inside = Inside {
    profile: "release",
    packages: &["guest", "luod", "luoctl", "luo-client"],
    programs: &["--bins", "--examples"],
};

const FOR_DEMO: Inside = Inside {
    profile: "demo",
    packages: &["guest", "luoctl"],
    programs: &["--bin=guest", "--bin=luoctl"],
};

/// Builds the guest program and the tools it uses, linked statically as nothing else is in its
/// initramfs.
fn build_guest(steps: &Steps, inside: &Inside) -> Result<(PathBuf, Programs)> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target_dir = kernel_tree::project_root().join("target/guest");
    let mut build = cargo();
    build
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--profile", inside.profile, "--target", TARGET])
        .args(inside.programs)
        .args(
            inside
                .packages
                .iter()
                .map(|name| format!("--package={name}")),
        )
        .arg("--target-dir")
        .arg(&target_dir);
    steps.run("building the guest program", &mut build)?;
    let built = target_dir.join(TARGET).join(inside.profile);
    let programs = Programs {
        luod: built.join("luod"),
        luoctl: built.join("luoctl"),
        cache: built.join("examples/cache"),
    };
    Ok((built.join("guest"), programs))
}
