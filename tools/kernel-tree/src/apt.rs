// SPDX-License-Identifier: GPL-2.0
//! apt: what its failures mean, as root or not, and a package of another suite without touching
//! the system's own set-up.

use std::env;
use std::fs;
use std::io::{stdin, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{anyhow, bail, Context, Result};

use crate::cache::{cache_dir, create_dir};
use crate::steps::Steps;

/// A command that is run as root: directly, or through sudo.
pub fn as_root(program: &str) -> Result<Command> {
    if rustix::process::geteuid().is_root() {
        let mut cmd = Command::new(program);
        cmd.env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        return Ok(cmd);
    }
    let found = env::var_os("PATH")
        .is_some_and(|paths| env::split_paths(&paths).any(|p| p.join("sudo").is_file()));
    if !found {
        bail!("packages must be installed and this is not root and has no sudo; run make setup once as root");
    }
    // A password is asked for here, where a person sees it, and not inside a logged step.
    let mut ask = Command::new("sudo");
    ask.arg(if stdin().is_terminal() { "-v" } else { "-n" });
    if !stdin().is_terminal() {
        ask.arg("true");
    }
    if !ask.status().is_ok_and(|s| s.success()) {
        bail!("packages must be installed and sudo does not allow it here; run make setup once as root");
    }
    let mut cmd = Command::new("sudo");
    cmd.args(["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", program]);
    Ok(cmd)
}

/// Runs a step of apt; its usual failures become one sentence each.
pub fn run(steps: &Steps, name: &str, cmd: &mut Command) -> Result<()> {
    steps.run(name, cmd).map_err(|err| {
        let log = steps.log_path(name);
        match explain(&steps.log_text(name)) {
            Some(why) => anyhow!("{name} failed: {why}; see {}", log.display()),
            None => err,
        }
    })
}

/// What went wrong, in words, by what apt or cargo printed.
pub fn explain(log: &str) -> Option<String> {
    let has = |words: &[&str]| words.iter().any(|w| log.contains(w));
    if has(&["No space left on device", "enough free space"]) {
        return Some("the disk is full; free some space and run it again".into());
    }
    if has(&[
        "Could not get lock",
        "Unable to acquire the dpkg frontend lock",
    ]) {
        return Some("another program is using apt; run it again when that is done".into());
    }
    // Not found comes first: apt wraps it in "Failed to fetch" as well.
    let gone = log.lines().find_map(|line| {
        let rest = line.split_once("Unable to locate package ").map(|(_, r)| r);
        rest.or_else(|| {
            let (before, _) = line.split_once(" has no installation candidate")?;
            before.split_whitespace().last()
        })
        .map(|name| name.trim_matches(['\'', '"', ' ']).to_owned())
    });
    if let Some(name) = gone {
        return Some(format!(
            "the package {name} is not in this system's archive (any more); check the apt sources"
        ));
    }
    if has(&["does not have a Release file", "404  Not Found"]) {
        return Some("the archive no longer has what was asked for; check that the mirror in the apt sources is complete".into());
    }
    let offline = [
        "Could not resolve",
        "Temporary failure resolving",
        "Could not connect",
        "Unable to connect",
        "Network is unreachable",
        "Connection timed out",
        "Failed to fetch",
        "failed to download",
        "Some index files failed to download",
    ];
    has(&offline)
        .then(|| "the network or the archive cannot be reached; connect and run it again".into())
}

/// The mirror this machine uses for the suite it runs.
fn mirror(steps: &Steps) -> Result<String> {
    let codename = crate::packages::Debian::here()?.codename;
    for attempt in 0..2 {
        let out = Command::new("apt-get")
            .args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)"])
            .env("LC_ALL", "C")
            .output()
            .context("cannot run apt-get")?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let targets = text.lines().filter_map(|l| l.split_once(' '));
        let mut usable = targets.filter(|(uri, _)| !uri.starts_with("cdrom:"));
        if let Some((uri, _)) = usable.find(|(_, name)| *name == codename) {
            return Ok(uri.to_owned());
        }
        if attempt == 0 {
            run(
                steps,
                "updating the package lists",
                as_root("apt-get")?.arg("update"),
            )?;
        }
    }
    bail!(
        "apt knows no mirror for {codename}; add the distribution's own archive to the apt sources"
    )
}

/// Downloads `package` from `suite` of the same mirror into `dir`, by a private apt state; nothing,
/// if the suite has no such package.
pub fn download(package: &str, suite: &str, dir: &Path, steps: &Steps) -> Result<Option<PathBuf>> {
    let keyring = ["pgp", "gpg"]
        .map(|e| format!("/usr/share/keyrings/debian-archive-keyring.{e}"))
        .into_iter()
        .find(|k| Path::new(k).is_file())
        .context("the package debian-archive-keyring is not installed; install it")?;
    let state = cache_dir().join("apt");
    create_dir(&state.join("lists/partial"))?;
    create_dir(&state.join("cache/archives/partial"))?;
    let list = state.join("sources.list");
    let line = format!(
        "deb [signed-by={keyring}] {} {suite} main\n",
        mirror(steps)?
    );
    fs::write(&list, line).with_context(|| format!("cannot write {}", list.display()))?;

    let private = || {
        let mut cmd = Command::new("apt-get");
        cmd.env("LC_ALL", "C")
            .arg("-o")
            .arg(format!("Dir::Etc::SourceList={}", list.display()))
            .args(["-o", "Dir::Etc::SourceParts=/dev/null"])
            .arg("-o")
            .arg(format!("Dir::State::Lists={}/lists", state.display()))
            .arg("-o")
            .arg(format!("Dir::Cache={}/cache", state.display()))
            // Without this a list that could not be fetched counts as success.
            .args(["-o", "APT::Update::Error-Mode=any"]);
        cmd
    };
    run(
        steps,
        &format!("reading the list of {suite}"),
        private().arg("update"),
    )?;

    // Downloaded aside and moved when complete, so that a half file is never taken for a whole.
    let aside = dir.join("partial");
    let _ = fs::remove_dir_all(&aside);
    create_dir(&aside)?;
    let mut get = private();
    get.current_dir(&aside).args(["download", package]);
    let name = format!("downloading {package} from {suite}");
    if let Err(err) = run(steps, &name, &mut get) {
        return match lacks(&steps.log_text(&name)) {
            true => Ok(None),
            false => Err(err),
        };
    }
    let deb = fs::read_dir(&aside)
        .with_context(|| format!("cannot list {}", aside.display()))?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .with_context(|| {
            format!(
                "apt said it downloaded {package}, but there is no file; see {}",
                aside.display()
            )
        })?;
    let to = dir.join(deb.file_name().unwrap_or_default());
    fs::rename(&deb, &to).with_context(|| format!("cannot write {}", to.display()))?;
    let _ = fs::remove_dir_all(&aside);
    Ok(Some(to))
}

/// Whether apt found its lists, and the package not in them.
fn lacks(log: &str) -> bool {
    log.contains("Unable to locate package") || log.contains("Can't find a source to download")
}

#[cfg(test)]
mod tests {
    use super::{explain, lacks};

    #[test]
    fn failures_are_told_apart() {
        let why = |log: &str| explain(log).unwrap_or_default();
        assert!(why("E: Unable to locate package foo-1").contains("package foo-1 is not"));
        assert!(why("E: Package 'bar' has no installation candidate").contains("package bar is"));
        assert!(why("Err: Temporary failure resolving 'x'").contains("network"));
        assert!(why("write error: No space left on device").contains("disk is full"));
        assert!(why("E: Failed to fetch u  404  Not Found").contains("no longer has"));
        assert_eq!(explain("something else"), None);
        assert!(lacks("E: Unable to locate package linux-source-7.2"));
        assert!(!lacks("E: Failed to fetch u  404  Not Found"));
    }
}
