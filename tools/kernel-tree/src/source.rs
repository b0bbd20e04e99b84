// SPDX-License-Identifier: GPL-2.0
//! The kernel source: from the archive, or the user's own tree.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::apt;
use crate::cache::{cache_dir, create_dir, hold, need_space, project_root, STEP_BYTES};
use crate::integrate::integrate;
use crate::steps::Steps;
use crate::version;

/// The suites of the archive that have source packages; the next one is asked when a package has
/// left the one before.
const SUITES: [&str; 2] = ["trixie-backports", "sid"];

/// Which of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// The tree with our crate in it.
    Ours,
    /// The tree as it comes.
    Mainline,
    /// The tree of the series before, as it comes.
    Older,
}

impl Tree {
    /// The word for it in paths and messages.
    pub fn name(self) -> &'static str {
        match self {
            Tree::Ours => "ours",
            Tree::Mainline => "mainline",
            Tree::Older => "older",
        }
    }

    /// The series it is of.
    pub fn series(self) -> &'static str {
        match self {
            Tree::Ours | Tree::Mainline => version::SERIES,
            Tree::Older => version::OLDER,
        }
    }
}

/// The user's own tree, named by the environment variable `LINUX`.
pub fn users_tree() -> Result<Option<PathBuf>> {
    let Some(path) = env::var_os("LINUX").filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let whole = path
        .canonicalize()
        .with_context(|| format!("LINUX names {}, which is not there", path.display()))?;
    version::supported(&whole)?;
    // The kernel refuses to build into another folder what was configured in the tree itself.
    if whole.join(".config").exists() || whole.join("include/config").exists() {
        bail!(
            "{} was built in place, which a build in another folder cannot use; run make mrproper there",
            whole.display()
        );
    }
    Ok(Some(whole))
}

/// The unpacked source of `tree`; ours has the crate as it is now.
///
/// # Errors
///
/// When it must be fetched and cannot be, and when our lines do not fit the tree.
pub fn ensure_source(tree: Tree, steps: &Steps) -> Result<PathBuf> {
    let _held = hold("source", steps)?;
    let own = match tree {
        Tree::Ours => users_tree()?,
        Tree::Mainline | Tree::Older => None,
    };
    let source = match own {
        Some(path) => path,
        None => from_archive(tree, steps)?,
    };
    if tree == Tree::Ours {
        let changes = integrate(&project_root(), &source)?;
        if changes != Default::default() {
            steps.say(&format!(
                "integrated into {}: {}",
                source.display(),
                changes.summary()
            ));
        }
    }
    Ok(source)
}

/// The folder with a folder for each tree: `source`, and beside it what is built from it. The way
/// from a build to its source is the same for each, so that the compiler's cache serves them all.
pub fn trees() -> PathBuf {
    cache_dir().join("trees")
}

/// The archive's tree, unpacked once.
fn from_archive(tree: Tree, steps: &Steps) -> Result<PathBuf> {
    let src = trees();
    let downloads = cache_dir().join("download");
    let package = format!("linux-source-{}", tree.series());
    let deb = match newest_deb(&downloads, &package) {
        Some(deb) => deb,
        // Ours and mainline's must be of one version: what is unpacked is only used without a
        // download when the other tree would be the same.
        None => match unpacked(&src, tree) {
            Some(path) => return Ok(path),
            None => {
                create_dir(&downloads)?;
                need_space(&downloads, STEP_BYTES)?;
                fetch(&package, &downloads, steps)?
            }
        },
    };
    let release = upstream(&deb, &package)
        .with_context(|| format!("{} has no version in its name; remove it", deb.display()))?;
    let path = src.join(format!("linux-{release}-{}/source", tree.name()));
    if path.join("Makefile").is_file() {
        return Ok(path);
    }
    unpack(&deb, &package, &path, steps)?;
    let stated = version::of_tree(&path)?;
    if stated != release {
        let _ = fs::remove_dir_all(&path);
        bail!(
            "{} holds Linux {stated}; remove it, so that it is downloaded again",
            deb.display()
        );
    }
    Ok(path)
}

/// Downloads `package` from the first suite that has it.
fn fetch(package: &str, downloads: &Path, steps: &Steps) -> Result<PathBuf> {
    for suite in SUITES {
        if let Some(deb) = apt::download(package, suite, downloads, steps)? {
            return Ok(deb);
        }
    }
    bail!(
        "the archive has no package {package} in {} (any more); check that the mirror in the apt sources is complete",
        SUITES.join(" or ")
    )
}

/// The newest unpacked tree of this kind.
fn unpacked(src: &Path, tree: Tree) -> Option<PathBuf> {
    let suffix = format!("-{}/source", tree.name());
    let is_one = |path: &Path| {
        version::of_tree(path).is_ok_and(|version| version::is_of(&version, tree.series()))
    };
    fs::read_dir(src)
        .ok()?
        .flatten()
        .map(|e| e.path().join("source"))
        .filter(|p| p.to_string_lossy().ends_with(&suffix) && is_one(p))
        .max_by_key(|p| numbers(&version::of_tree(p).unwrap_or_default()))
}

/// The newest downloaded version of `package`.
fn newest_deb(downloads: &Path, package: &str) -> Option<PathBuf> {
    fs::read_dir(downloads)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .filter(|p| upstream(p, package).is_some())
        .max_by_key(|p| numbers(&p.to_string_lossy()))
}

/// `7.3.4` of `linux-source-7.3_7.3.4-1~bpo13+1_all.deb`.
fn upstream(deb: &Path, package: &str) -> Option<String> {
    let name = deb.file_name()?.to_str()?.strip_suffix(".deb")?;
    let version = name.strip_prefix(package)?.strip_prefix('_')?;
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    let end = version.find(|c| !plain(c)).unwrap_or(version.len());
    let release = &version[..end];
    Some(match release.matches('.').count() {
        1 => format!("{release}.0"),
        _ => release.to_owned(),
    })
}

/// The numbers in a text, to sort versions by.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect()
}

/// Unpacks the tarball in `deb` as the folder `to`, which appears only when it is complete.
fn unpack(deb: &Path, package: &str, to: &Path, steps: &Steps) -> Result<()> {
    let Some(folder) = to.parent() else {
        bail!("the cache folder {} is not usable", to.display());
    };
    create_dir(folder)?;
    need_space(folder, STEP_BYTES)?;
    let aside = folder.join("unpacking");
    let _ = fs::remove_dir_all(&aside);
    create_dir(&aside.join("tree"))?;
    let script = format!(
        "dpkg-deb -x \"$1\" \"$2/deb\" && tar -C \"$2/tree\" --strip-components=1 -xf \"$2/deb/usr/src/{package}.tar.xz\""
    );
    let mut cmd = Command::new("sh");
    cmd.args(["-c", &script, "sh"]).arg(deb).arg(&aside);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    apt::run(steps, &format!("unpacking {name}"), &mut cmd)?;
    fs::rename(aside.join("tree"), to).with_context(|| format!("cannot write {}", to.display()))?;
    let _ = fs::remove_dir_all(&aside);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packages() {
        let of = |name: &str| upstream(Path::new(name), "linux-source-7.3");
        assert_eq!(
            of("d/linux-source-7.3_7.3.4-1~bpo13+1_all.deb").unwrap(),
            "7.3.4"
        );
        assert_eq!(of("linux-source-7.3_7.3-1_all.deb").unwrap(), "7.3.0");
        assert_eq!(of("linux-source-7.2_7.2.12-1_all.deb"), None);
        assert!(numbers("7.3.10") > numbers("7.3.9"));
    }
}
