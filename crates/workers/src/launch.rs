//! Which program runs a script, and the one thread that starts programs.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::sync::{mpsc, oneshot};

use crate::sys;

/// The runtimes that come with the product, by the extension of the scripts they run.
const KNOWN: [(&str, &str); 2] = [("py", "dunnage-python"), ("lua", "dunnage-lua")];
/// What a worker does not get to see of the server's environment: its configuration and its credentials.
const WITHHELD_PREFIXES: [&str; 4] = ["DUNNAGE_", "AWS_", "PG", "DATABASE_URL"];

/// A program that runs scripts, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Runtime {
    /// Finds the runtime for `script`: the one named, or the one its extension stands for. A name is looked for beside this
    /// program, then on `PATH`; anything with a slash is a path.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] if the extension is unknown or the program is nowhere to be found.
    pub fn find(script: &Path, named: Option<&str>) -> Result<Self, RuntimeError> {
        let name = match named {
            Some(path) if path.contains('/') => {
                let program = std::path::absolute(path).unwrap_or_else(|_| path.into());
                return Self::existing(program).ok_or_else(|| RuntimeError::NotFound(path.to_owned()));
            }
            Some(name) if name.starts_with("dunnage-") => name.to_owned(),
            Some(name) => format!("dunnage-{name}"),
            None => known_runtime(script)?.to_owned(),
        };
        let found = candidates(&name).find_map(Self::existing);
        found.ok_or(RuntimeError::NotFound(name))
    }

    fn existing(program: PathBuf) -> Option<Self> {
        program.is_file().then(|| Self { program, arguments: Vec::new() })
    }
}

fn known_runtime(script: &Path) -> Result<&'static str, RuntimeError> {
    let extension = script.extension().unwrap_or_default().to_string_lossy();
    KNOWN
        .iter()
        .find(|(known, _)| *known == extension)
        .map(|(_, runtime)| *runtime)
        .ok_or_else(|| RuntimeError::UnknownExtension(script.to_owned()))
}

fn candidates(name: &str) -> impl Iterator<Item = PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join(name)).collect();
    beside.into_iter().chain(on_path)
}

/// Why there is no runtime for a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The extension says nothing.
    #[error("`{}` ends neither in `.py` nor in `.lua`; name the runtime with `--runtime`", .0.display())]
    UnknownExtension(PathBuf),
    /// The program is missing.
    #[error("the runtime `{0}` was found neither beside this program nor on PATH")]
    NotFound(String),
}

/// Starts programs, all from one thread that lives as long as the process.
///
/// The kernel kills a worker when the *thread* that started it ends (`PR_SET_PDEATHSIG`), so workers must not be started
/// from a thread that comes and goes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    requests: mpsc::UnboundedSender<Request>,
}

struct Request {
    runtime: Runtime,
    directory: PathBuf,
    respond: oneshot::Sender<io::Result<Launched>>,
}

/// A program that has just been started.
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
}

impl Launcher {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the system refuses another thread, or a look at this process's own descriptors.
    pub fn start() -> io::Result<Self> {
        sys::withhold_inherited()?;
        let (requests, mut received) = mpsc::unbounded_channel::<Request>();
        std::thread::Builder::new().name("launcher".to_owned()).spawn(move || {
            while let Some(request) = received.blocking_recv() {
                let launched = launch(&request.runtime, &request.directory);
                if let Err(Ok(mut unwanted)) = request.respond.send(launched) {
                    // Whoever asked has gone; nobody else would end and reap the child. An error means that it has ended.
                    let _ = unwanted.child.kill();
                    let _ = unwanted.child.wait();
                }
            }
            // The handles are all gone, but the workers they started may not be: stay until the process ends.
            loop {
                std::thread::park();
            }
        })?;
        Ok(Self { requests })
    }

    pub(crate) async fn launch(&self, runtime: Runtime, directory: PathBuf) -> io::Result<Launched> {
        let (respond, response) = oneshot::channel();
        let gone = |_| io::Error::other("the launcher thread has ended");
        self.requests.send(Request { runtime, directory, respond }).map_err(|_| gone(()))?;
        response.await.map_err(|_| gone(()))?
    }
}

fn launch(runtime: &Runtime, directory: &Path) -> io::Result<Launched> {
    let (socket, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&runtime.program);
    command
        .args(&runtime.arguments)
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if WITHHELD_PREFIXES.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            command.env_remove(name);
        }
    }
    sys::prepare(&mut command, sys::above_reserved(theirs)?);
    let child = command.spawn()?;
    Ok(Launched { child, socket })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_unless_a_runtime_is_named() {
        assert_eq!(known_runtime(Path::new("a/model.py")), Ok("dunnage-python"));
        assert_eq!(known_runtime(Path::new("model.lua")), Ok("dunnage-lua"));
        assert!(known_runtime(Path::new("model")).is_err());
        let found = Runtime::find(Path::new("model.x"), Some("/bin/sh")).unwrap();
        assert_eq!(found.program, Path::new("/bin/sh"));
        assert_eq!(Runtime::find(Path::new("model.x"), Some("nonesuch")), Err(RuntimeError::NotFound("dunnage-nonesuch".into())));
    }
}
