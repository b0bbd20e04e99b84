// SPDX-License-Identifier: GPL-2.0
//! luod: sets itself up and serves.

use anyhow::{bail, Context, Result};
use clap::Parser;
use luo_client::plain;
use luod::cli::Arguments;
use luod::config::Config;
use luod::kernel::{this_boot, Kernel};
use luod::peer::group_number;
use luod::server::Server;
use luod::store;
use rustix::fs::{chownat, AtFlags, Gid, Mode, CWD};
use rustix::process::{getrlimit, setrlimit, umask, Resource, Rlimit};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt;
use std::io::IsTerminal;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use tracing::{warn, Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (check, print_config) = (arguments.check, arguments.print_config);
    // Before anything else is opened.
    let stored = store::inherited();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .event_format(Lines)
        .init();
    let read = move || {
        let (file, socket) = (arguments.config.as_deref(), arguments.socket.as_deref());
        Config::read(file, socket)
    };
    let config = match read() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("luod: {error:#}");
            return ExitCode::from(2);
        }
    };
    if check {
        println!("the configuration is good");
        return ExitCode::SUCCESS;
    }
    if print_config {
        return match config.to_text() {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("luod: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match serve(config, read, stored) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("luod: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(
    mut config: Config,
    read: impl Fn() -> Result<Config> + 'static,
    stored: Vec<(String, std::os::fd::OwnedFd)>,
) -> Result<()> {
    let (stop, told) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, told.try_clone()?)?;
    }
    let (reload, told) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGHUP, told)?;
    make_room(&mut config);
    let listener = listen(&config)?;
    let folder = config.socket.parent().unwrap_or(Path::new("/"));
    let boot = this_boot();
    let kernel = Kernel::new(folder, boot.clone());
    let stored = stored.into_iter();
    let stored = stored.map(|(name, fd)| (name, Rc::new(fd)));
    let stored = stored.collect();
    let mut server = Server::new(kernel, config.clone(), boot, listener, stop, stored)?;
    server.reload_on(reload, move || {
        let mut config = read()?;
        make_room(&mut config);
        Ok(config)
    })?;
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    server.run()?;
    let _ = std::fs::remove_file(&config.socket);
    Ok(())
}

/// Each connection takes a descriptor, each subscription one or two more while there is an update.
fn make_room(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    let Some(most) = limit.maximum else { return };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let wanted = config.connections + 2 * config.subscriptions + 32;
    if wanted > most {
        let share = (most.saturating_sub(32) / 3).max(1);
        warn!("{most} descriptors are not enough for the limits that are configured: {share} connections and subscriptions at most");
        config.connections = config.connections.min(share);
        config.subscriptions = config.subscriptions.min(share);
    }
}

/// What the socket's name ends with until it is ready.
const FRESH: &str = ".new";

/// Root and the group can connect; who it is decides what they may do.
fn listen(config: &Config) -> Result<UnixListener> {
    let path = &config.socket;
    let name = path.display();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another luod listens on {name}; stop it first");
    }
    let is_socket = std::fs::symlink_metadata(path).map(|found| found.file_type().is_socket());
    match is_socket {
        Ok(true) => std::fs::remove_file(path).with_context(|| format!("cannot remove {name}"))?,
        Ok(false) => bail!("{name} is there, and no socket; remove it, or choose another path"),
        Err(_) => {}
    }
    // Whoever sees the socket can use it: it gets its name when it has its owner.
    let mut fresh = path.clone().into_os_string();
    fresh.push(FRESH);
    let fresh = PathBuf::from(fresh);
    let _ = std::fs::remove_file(&fresh);
    let before = umask(Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(&fresh).with_context(|| format!("cannot listen on {name}"));
    umask(before);
    let listener = listener?;
    if let Some(group) = group_number(&config.group) {
        // Whatever has come into its place meanwhile, it is not followed.
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(CWD, &fresh, None, Some(Gid::from_raw(group)), flags)
            .with_context(|| format!("cannot give {name} to the group {}", config.group))?;
    }
    std::fs::rename(&fresh, path).with_context(|| format!("cannot listen on {name}"))?;
    Ok(listener)
}

/// Characters of an event; more is no use to anybody.
const MAX_LINE: usize = 1_000;

/// One line an event: with a priority that journald understands, or for a person.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if std::io::stderr().is_terminal() {
            write!(writer, "luod: ")?;
        } else {
            let priority = match *event.metadata().level() {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                _ => 7,
            };
            write!(writer, "<{priority}>")?;
        }
        // Whoever is quoted: an event is one line, and nothing in it is more than text.
        let mut text = String::new();
        let fields = context.field_format();
        fields.format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "{}", plain(&text, MAX_LINE))
    }
}
