// SPDX-License-Identifier: GPL-2.0
//! The configuration file: what can be set, and what values make sense.

use crate::machine::{MayRequire, Rules, Unclaimed};
use anyhow::{ensure, Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All that can be set, in TOML. What is not there has the value of [`Config::default`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect.
    pub socket: PathBuf,
    /// Name or number of the group whose members may subscribe.
    pub group: String,
    /// Connections at a time.
    pub connections: usize,
    /// Connections of one user at a time; root has no such limit.
    pub connections_per_user: usize,
    /// Ids subscribed at a time.
    pub subscriptions: usize,
    /// Ids of one user.
    pub subscriptions_per_user: usize,
    /// Seconds that clients have for preserving, if who drives the update says nothing else.
    pub deadline: u64,
    /// Seconds that clients have for standing still, if who drives the update says nothing else.
    pub stop_deadline: u64,
    /// Whether an update is called off when a client does not take part, whatever its driver says.
    pub strict: bool,
    /// Whose services may say that they must live through.
    pub may_require: MayRequire,
    /// Seconds that who drives an update has between two of its steps.
    pub driver_limit: u64,
    /// Seconds after which what has arrived counts as unclaimed.
    pub claim_limit: u64,
    /// What becomes of it then.
    pub unclaimed: Unclaimed,
    /// Seconds that somebody else may have /dev/liveupdate open.
    pub busy_limit: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: luo_client::SOCKET.into(),
            group: "luod".into(),
            connections: 2048,
            connections_per_user: 64,
            subscriptions: 2048,
            subscriptions_per_user: 64,
            deadline: 30,
            stop_deadline: 10,
            strict: false,
            may_require: MayRequire::Members,
            driver_limit: 300,
            claim_limit: 300,
            unclaimed: Unclaimed::Keep,
            busy_limit: 30,
        }
    }
}

impl Config {
    /// Where it is looked for.
    pub const PATH: &'static str = "/etc/luod.toml";

    /// Reads a file. The usual one need not exist. A socket that is given on the command line is
    /// checked as one in the file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or says what makes no sense.
    pub fn read(path: Option<&Path>, socket: Option<&Path>) -> Result<Self> {
        let text = match path {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
            None => match std::fs::read_to_string(Self::PATH) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                other => other.with_context(|| format!("cannot read {}", Self::PATH))?,
            },
        };
        let name = path.map_or(Self::PATH.into(), Path::to_string_lossy);
        let mut config = Self::parse(&text).with_context(|| {
            format!("{name} is wrong; luod --print-config names what can be set")
        })?;
        if let Some(socket) = socket {
            socket.clone_into(&mut config.socket);
            config.check().context("--socket is wrong")?;
        }
        Ok(config)
    }

    /// As a file that says all.
    ///
    /// # Errors
    ///
    /// A path is no text.
    pub fn to_text(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let config = self;
        let range = |name: &str, value: u64, least: u64, most: u64| {
            ensure!(
                (least..=most).contains(&value),
                "{name} = {value} is not between {least} and {most}"
            );
            Ok(())
        };
        range("connections", config.connections as u64, 1, 100_000)?;
        range(
            "connections_per_user",
            config.connections_per_user as u64,
            1,
            100_000,
        )?;
        range("subscriptions", config.subscriptions as u64, 1, 10_000)?;
        range(
            "subscriptions_per_user",
            config.subscriptions_per_user as u64,
            1,
            100_000,
        )?;
        range("deadline", config.deadline, 1, 86_400)?;
        range("stop_deadline", config.stop_deadline, 1, 3_600)?;
        range("driver_limit", config.driver_limit, 1, 86_400)?;
        range("claim_limit", config.claim_limit, 1, 86_400)?;
        range("busy_limit", config.busy_limit, 1, 3_600)?;
        ensure!(
            config.socket.is_absolute() && config.socket.as_os_str().len() < 104,
            "socket = \"{}\" is not an absolute path of less than 104 bytes",
            config.socket.display()
        );
        ensure!(!config.group.is_empty(), "group is empty");
        Ok(())
    }

    /// What the machine goes by.
    pub fn rules(&self) -> Rules {
        Rules {
            subscriptions: self.subscriptions,
            subscriptions_per_user: self.subscriptions_per_user,
            ids_per_connection: 16,
            deadline: self.deadline * 1000,
            stop_deadline: self.stop_deadline * 1000,
            strict: self.strict,
            may_require: self.may_require,
            driver_limit: self.driver_limit * 1000,
            claim_limit: self.claim_limit * 1000,
            unclaimed: self.unclaimed,
        }
    }

    /// How long the device is waited for.
    pub fn busy_limit(&self) -> Duration {
        Duration::from_secs(self.busy_limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_the_package_has_the_defaults() {
        let shipped = include_str!("../luod.toml");
        assert_eq!(Config::parse(shipped).expect("ours"), Config::default());
        let all = shipped.replace("# ", "").replace("#", "# ");
        let said = all.lines().filter(|line| line.contains(" = ")).count();
        assert!(said >= 14, "{said} settings are named");
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let config = Config {
            strict: true,
            unclaimed: Unclaimed::Finish,
            ..Config::default()
        };
        let text = config.to_text().expect("text");
        assert_eq!(Config::parse(&text).expect("ours"), config);
        let said = text.lines().filter(|line| line.contains(" = ")).count();
        assert_eq!(said, 14, "{text}");
    }

    #[test]
    fn a_socket_on_the_command_line_is_checked_too() {
        let null = Some(Path::new("/dev/null"));
        let read = |socket: &str| Config::read(null, Some(Path::new(socket)));
        for bad in ["x.sock", "./x", "", &format!("/{}", "x".repeat(103))] {
            let error = read(bad).expect_err("wrong");
            assert!(format!("{error:#}").contains("absolute path"), "{error:#}");
        }
        assert_eq!(read("/run/x").expect("good").socket, Path::new("/run/x"));
    }

    #[test]
    fn values_are_checked() {
        for (text, part) in [
            ("deadline = 0", "between 1 and 86400"),
            ("deadlin = 5", "unknown field"),
            ("unclaimed = \"burn\"", "unknown variant"),
            ("socket = \"run\"", "absolute path"),
            ("connections = -1", "-1"),
            ("x", ""),
        ] {
            let error = Config::parse(text).expect_err("wrong");
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}
