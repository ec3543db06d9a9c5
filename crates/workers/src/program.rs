//! Which program runs a script.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The runtimes that come with the product, by the extension of the scripts they run.
const KNOWN: [(&str, &str); 2] = [("py", "dunnage-python"), ("lua", "dunnage-lua")];

/// What tells numerical libraries how many threads to use: OpenMP, which PyTorch follows, OpenBLAS, MKL, BLIS and NumExpr.
const THREAD_VARIABLES: [&str; 5] =
    ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"];

/// A program that runs scripts, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// How many threads its numerical libraries may use, unless the environment says so already; zero leaves it to them.
    pub threads: usize,
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

    /// The variables that it is to find besides those of this process.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let wanted = THREAD_VARIABLES.into_iter().filter(|name| self.threads > 0 && std::env::var_os(name).is_none());
        wanted.map(|name| (name, self.threads.to_string()))
    }

    fn existing(program: PathBuf) -> Option<Self> {
        program.is_file().then(|| Self { program, arguments: Vec::new(), threads: 0 })
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
