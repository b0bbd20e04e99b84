// SPDX-License-Identifier: GPL-2.0
//! A kernel: configured by a fragment, built in a folder of its own, and never twice for nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use sha2::{Digest, Sha256};

use crate::cache::{create_dir, hold, need_space, project_root, STEP_BYTES};
use crate::fragment::Fragment;
use crate::integrate::CRATE;
use crate::make::{jobs, make};
use crate::source::{ensure_source, trees, users_tree, Tree};
use crate::steps::Steps;
use crate::version;

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub bzimage: PathBuf,
    pub vmlinux: PathBuf,
    pub config: PathBuf,
    pub build_dir: PathBuf,
    pub source: PathBuf,
    pub release: String,
}

/// The kernel of `tree` with the options of `kernel-configs/<config>.config`; if it is ours, those
/// of `ours.config` as well.
///
/// # Errors
///
/// When the source is not available, an option cannot be set, or the build fails.
pub fn ensure_kernel(tree: Tree, config: &str, steps: &Steps) -> Result<Kernel> {
    let mut fragment = Fragment::read(&config_path(config)?)?;
    if tree == Tree::Ours {
        fragment.add(&Fragment::read(&config_path("ours")?)?);
    }
    build(tree, config, &fragment, steps)
}

/// Our kernel with `users`' options on top of those a kernel of ours needs, left in `out`.
pub fn kernel_for_user(users: Option<&Path>, out: &Path, steps: &Steps) -> Result<()> {
    let mut fragment = Fragment::read(&config_path("base")?)?;
    if let Some(path) = users {
        fragment.add(&Fragment::read(path)?);
    }
    create_dir(out)?;
    let kernel = build(Tree::Ours, "user", &fragment, steps)?;
    for (from, name) in [
        (&kernel.bzimage, "bzImage"),
        (&kernel.vmlinux, "vmlinux"),
        (&kernel.config, "config"),
    ] {
        let to = out.join(name);
        fs::copy(from, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    steps.say(&format!(
        "Linux {} is in {}: bzImage, vmlinux, config",
        kernel.release,
        out.display()
    ));
    Ok(())
}

/// The fragment called `config`.
fn config_path(config: &str) -> Result<PathBuf> {
    let dir = project_root().join("kernel-configs");
    let path = dir.join(format!("{config}.config"));
    if path.is_file() {
        return Ok(path);
    }
    let mut names: Vec<String> = fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".config")?.to_owned()))
        .collect();
    names.sort();
    bail!(
        "there is no configuration \"{config}\"; there are: {}",
        names.join(", ")
    )
}

/// Where the kernel of `tree` and `config` is built.
fn build_dir(tree: Tree, config: &str, source: &Path) -> Result<PathBuf> {
    let version = version::of_tree(source)?;
    let mut name = format!("linux-{version}-{}", tree.name());
    if tree == Tree::Ours && users_tree()?.is_some() {
        let hash = digest(&[source.to_string_lossy().as_bytes()]);
        name = format!("linux-{version}-own-{}", &hash[..8]);
    }
    Ok(trees().join(name).join(format!("build-{config}")))
}

fn build(tree: Tree, config: &str, fragment: &Fragment, steps: &Steps) -> Result<Kernel> {
    let source = ensure_source(tree, steps)?;
    let dir = build_dir(tree, config, &source)?;
    let label = format!("{}/{config}", tree.name());
    let _held = hold(&format!("{}-{config}", tree.name()), steps)?;
    if !dir.join("vmlinux").is_file() {
        create_dir(&dir)?;
        need_space(&dir, STEP_BYTES)?;
    }
    configure(&source, &dir, &label, fragment, steps)?;
    let mut cmd = make(&source, &dir)?;
    cmd.arg(jobs()).args(["bzImage", "vmlinux"]);
    if has_modules(&dir) {
        cmd.arg("modules");
    }
    steps.run(&format!("building {label}"), &mut cmd)?;
    finished(source, dir)
}

/// Whether the configuration in `dir` has loadable modules; the target fails where it has not.
fn has_modules(dir: &Path) -> bool {
    let text = fs::read_to_string(dir.join(".config")).unwrap_or_default();
    text.lines().any(|line| line == "CONFIG_MODULES=y")
}

/// The built kernel in `dir`.
fn finished(source: PathBuf, dir: PathBuf) -> Result<Kernel> {
    let release_file = dir.join("include/config/kernel.release");
    let release = fs::read_to_string(&release_file)
        .with_context(|| format!("cannot read {}", release_file.display()))?;
    let kernel = Kernel {
        bzimage: dir.join("arch/x86/boot/bzImage"),
        vmlinux: dir.join("vmlinux"),
        config: dir.join(".config"),
        build_dir: dir,
        source,
        release: release.trim().to_owned(),
    };
    for file in [&kernel.bzimage, &kernel.vmlinux] {
        if !file.is_file() {
            bail!(
                "the build left no {}; run make clean and build again",
                file.display()
            );
        }
    }
    Ok(kernel)
}

/// Configures `dir`, when anything that decides about options has changed since it was last done.
fn configure(
    source: &Path,
    dir: &Path,
    label: &str,
    fragment: &Fragment,
    steps: &Steps,
) -> Result<()> {
    let dot_config = dir.join(".config");
    let stamp = dir.join("liveupdate-rs.stamp");
    let text = fragment.text();
    let read = |name: &str| fs::read(source.join(name)).unwrap_or_default();
    let now = digest(&[
        text.as_bytes(),
        &read("Makefile"),
        &read("kernel/liveupdate/Kconfig"),
        &read(&format!("{CRATE}/Kconfig")),
    ]);
    if dot_config.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == now) {
        return Ok(());
    }
    let file = dir.join("liveupdate-rs.config");
    fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    let mut cmd = make(source, dir)?;
    // kconfig leaves a .config alone that would not change, so nothing is built again for it.
    cmd.arg(format!("KCONFIG_ALLCONFIG={}", file.display()))
        .arg("allnoconfig");
    steps.run(&format!("configuring {label}"), &mut cmd)?;
    // kconfig only warns when a selected option lacks what it needs; the build then breaks
    // somewhere.
    let name = format!("configuring {label}");
    if let Some(option) = unmet(&steps.log_text(&name)) {
        bail!(
            "the configuration {label} selects {option} without what it depends on; see {}",
            steps.log_path(&name).display()
        );
    }
    let result = fs::read_to_string(&dot_config)
        .with_context(|| format!("cannot read {}", dot_config.display()))?;
    let missing = fragment.missing_in(&result);
    if !missing.is_empty() {
        bail!(
            "the configuration {label} is not possible: these lines did not take effect: {}; add the options that they depend on, or drop them",
            missing.join(", ")
        );
    }
    fs::write(&stamp, now).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The option that kconfig warns was selected against its dependencies.
fn unmet(log: &str) -> Option<&str> {
    let (_, rest) = log.split_once("unmet direct dependencies detected for ")?;
    rest.lines().next().map(str::trim)
}

/// A hash over all parts, as hex digits.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps two parts from being taken for one.
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
