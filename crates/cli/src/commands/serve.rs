//! `dunnage serve`: runs the server until it is told to stop.

use std::fs::DirBuilder;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::logging::{self, Log, Outlet};
use crate::settings::Settings;
use crate::settings::local::local_url;

/// The conventional exit codes of a process ended by SIGHUP, SIGINT and SIGTERM.
const HUNG_UP: i32 = 129;
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// How long an exit at once waits for the log to be taken.
const EXIT_PATIENCE: Duration = Duration::from_millis(200);

/// Serve a script
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage serve model.py                              at http://127.0.0.1:8080
  dunnage serve model.lua --reload                    while you work on it
  dunnage serve model.py --workers 4 --device cuda:0
  dunnage serve model.py --host 0.0.0.0 --token-file tokens    see `dunnage token`
  DUNNAGE_PORT=9000 dunnage serve                     the model.py or model.lua of this folder

Flags are stronger than DUNNAGE_* variables, those are stronger than dunnage.toml; `dunnage config` shows the outcome.
SIGTERM and Ctrl-C let running jobs end within the grace; a second one exits at once.")]
pub(crate) struct Serve {
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.to_config()?;
        let log = Log::start(&self.settings.logs, Arc::clone(&config.lost_log_lines))?;
        dunnage_loops::panics::log_all();
        keep_files_from_others();
        make_data_dir(&config.storage.data_dir)?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime's threads")?;
        runtime.block_on(async {
            let stop = stop_signal(log.outlet())?;
            let name = config.service.name.to_string();
            let is_watched = logging::is_pretty(self.settings.logs.log_format) && io::stderr().is_terminal();
            let door = Door { scheme: scheme(&config), has_tokens: self.settings.access.has_tokens() };
            let listening =
                move |address| if is_watched { eprintln!("{}", welcome(&name, &door, address)) } else { tell(&name, address) };
            dunnage_server::run(config, listening, stop).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// From now on, files that are made are not for others on this machine, also where the data folder that was given lets them in.
fn keep_files_from_others() {
    // Any mask may be set; the first call only asks.
    let mask = umask(withheld());
    umask(mask | withheld());
}

/// What others may not do with them: anything for those of no group of ours, writing for the rest.
fn withheld() -> Mode {
    Mode::WGRP | Mode::RWXO
}

/// Made here already, so that a folder which cannot be made is told by its flag. What jobs are given is for its owner alone.
fn make_data_dir(folder: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the folder of `--data-dir {}`", folder.display()))
}

fn tell(service: &str, address: SocketAddr) {
    tracing::info!(service, %address, "listening");
}

/// How the service is entered.
struct Door {
    scheme: &'static str,
    has_tokens: bool,
}

fn scheme(config: &dunnage_server::Config) -> &'static str {
    if config.access.tls.is_some() { "https" } else { "http" }
}

fn welcome(service: &str, door: &Door, address: SocketAddr) -> String {
    let url = local_url(door.scheme, address);
    let token = if door.has_tokens { "-H \"Authorization: Bearer $DUNNAGE_TOKEN\" " } else { "" };
    format!(
        "\n  {service} listens at {url}; try\n\n    curl {token}-F file=@FILE {url}/output\n\n  Ctrl-C stops it; a second one does \
         so at once.\n"
    )
}

/// Ends at the first SIGTERM or SIGINT, and where people watch at SIGHUP, too, which then says that their terminal is gone. The second
/// one exits the process; its workers end with it.
fn stop_signal(log: Outlet) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = StopSignals::listen()?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        signals.next().await;
        // The server may have ended by itself, and then nobody waits for the signal any more.
        let _ = stop.send(());
        let code = signals.next().await;
        log.flush_within(EXIT_PATIENCE);
        std::process::exit(code);
    });
    Ok(async { stopped.await.unwrap_or_default() })
}

/// The signals that stop a server. None ends the process by itself any more, SIGHUP included: where nobody watches, it only has files
/// read anew.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    has_terminal: bool,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind, name| signal(kind).with_context(|| format!("cannot listen for {name}"));
        Ok(Self {
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
            hangup: listen(SignalKind::hangup(), "SIGHUP")?,
            has_terminal: io::stderr().is_terminal(),
        })
    }

    /// Waits for the next one, and returns the exit code that goes with it.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATED,
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.hangup.recv(), if self.has_terminal => HUNG_UP,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_data_folder_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/data");
        make_data_dir(&folder).unwrap();
        make_data_dir(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_welcome_has_a_line_that_works_when_pasted() {
        let open = Door { scheme: "http", has_tokens: false };
        let text = welcome("gait", &open, "0.0.0.0:8080".parse().unwrap());
        assert!(text.contains("gait listens at http://127.0.0.1:8080"), "{text}");
        assert!(text.contains("curl -F file=@FILE http://127.0.0.1:8080/output\n"), "{text}");
        assert!(welcome("gait", &open, "[::]:80".parse().unwrap()).contains("http://[::1]:80"));
        let closed = welcome("gait", &Door { scheme: "https", has_tokens: true }, "127.0.0.1:443".parse().unwrap());
        let line = "curl -H \"Authorization: Bearer $DUNNAGE_TOKEN\" -F file=@FILE https://127.0.0.1:443/output\n";
        assert!(closed.contains(line), "{closed}");
    }
}
