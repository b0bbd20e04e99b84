// SPDX-License-Identifier: GPL-2.0
//! How the kernel's make is called: always with the same tools and variables, or all is built anew.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{bail, Result};

use crate::cache::cache_dir;

/// The LLVM release the kernel's C and `bindgen` are built with.
pub const LLVM: &str = "19";

/// The Rust compiler of the distribution; the first one on PATH may be another.
pub const RUSTC: &str = "/usr/bin/rustc";

/// The version of bindgen that is compiled where no package has one that is new enough.
pub const BINDGEN_VERSION: &str = "0.72.1";

/// What keeps compiled objects: kernels of one source share most of theirs.
const CCACHE: &str = "/usr/bin/ccache";

/// What a caller's make or cargo leaves in the environment and the kernel's make must not see.
const FOREIGN: [&str; 20] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "MAKEFILES",
    "GNUMAKEFLAGS",
    "LINUX",
    "KVM",
    "CONFIG",
    "OUT",
    "ARCH",
    "CROSS_COMPILE",
    "CC",
    "LLVM",
    "O",
    "W",
    "KCFLAGS",
    "KRUSTFLAGS",
    "RUSTFLAGS",
    // cargo and rustup name the libraries of another compiler here.
    "LD_LIBRARY_PATH",
];

/// Where our own bindgen is, when it was compiled.
pub fn own_bindgen() -> PathBuf {
    cache_dir().join(format!("tools/bindgen-{BINDGEN_VERSION}/bin/bindgen"))
}

/// Where the package of a later release is, when it was fetched.
pub fn later_bindgen() -> PathBuf {
    cache_dir().join("tools/bindgen-debian/bindgen")
}

/// The folder of libclang, which bindgen loads.
pub fn libclang() -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{LLVM}/lib"))
}

/// The bindgen to use: our own, one that was fetched, else the distribution's; the first that is
/// new enough.
pub fn bindgen() -> Option<PathBuf> {
    let places = [own_bindgen(), later_bindgen(), "/usr/bin/bindgen".into()];
    places.into_iter().find(|path| is_new_enough(path))
}

/// Whether it runs, and has the version that the kernel's scripts/min-tool-version.sh asks for.
pub fn is_new_enough(bindgen: &Path) -> bool {
    let Ok(out) = Command::new(bindgen).arg("--version").output() else {
        return false;
    };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let version = text.split_whitespace().nth(1).unwrap_or_default();
    let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
    out.status.success() && numbers.is_ok_and(|numbers| numbers >= vec![0, 71, 1])
}

/// `make` in `source` for the build folder `build`, targets to be added.
pub fn make(source: &Path, build: &Path) -> Result<Command> {
    let Some(bindgen) = bindgen() else {
        bail!("bindgen is not installed; run make setup");
    };
    let mut cmd = Command::new("make");
    for name in FOREIGN {
        cmd.env_remove(name);
    }
    if Path::new(CCACHE).is_file() {
        cmd.env("CCACHE_DIR", cache_dir().join("ccache"))
            .env("CCACHE_MAXSIZE", "4G")
            // Paths below the cache are taken as relative ones, and the folder a compiler runs in
            // is no part of what it makes: the trees lie in different folders, their text is the
            // same.
            .env("CCACHE_BASEDIR", cache_dir())
            .env("CCACHE_NOHASHDIR", "1")
            // Not HOSTCC: the kernel's makefiles hand that to rustc as the linker, a single word.
            .arg(format!("CC={CCACHE} clang-{LLVM}"));
    }
    cmd.env("LIBCLANG_PATH", libclang())
        .env("KBUILD_BUILD_TIMESTAMP", "2026-01-01")
        .env("KBUILD_BUILD_USER", "kho")
        .env("KBUILD_BUILD_HOST", "kho")
        .arg("-C")
        .arg(source)
        .arg(format!("LLVM=-{LLVM}"))
        .arg(format!("O={}", build.display()))
        .arg(format!("RUSTC={RUSTC}"))
        .arg(format!("HOSTRUSTC={RUSTC}"))
        .arg("RUSTDOC=/usr/bin/rustdoc")
        .arg(format!("BINDGEN={}", bindgen.display()));
    Ok(cmd)
}

/// `-j`, for as many jobs as there are processors.
pub fn jobs() -> String {
    format!(
        "-j{}",
        thread::available_parallelism().map_or(1, usize::from)
    )
}
