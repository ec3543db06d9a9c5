//! Choosing the interpreter.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// An interpreter, and why it was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Its path. Links are not resolved: from this path Python knows to which environment it belongs.
    pub(crate) path: PathBuf,
    /// Where the choice came from.
    source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Flag,
    Environment,
    Path,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the Python interpreter `{}` ({})", self.path.display(), self.source)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Flag => "from --python",
            Self::Environment => "from $VIRTUAL_ENV",
            Self::Path => "the default, found on PATH",
        })
    }
}

/// What the choice depends on beside the flag.
pub(crate) struct Surroundings {
    pub(crate) virtual_env: Option<OsString>,
    pub(crate) path: Option<OsString>,
}

impl Surroundings {
    pub(crate) fn of_this_process() -> Self {
        Self { virtual_env: std::env::var_os("VIRTUAL_ENV"), path: std::env::var_os("PATH") }
    }
}

/// Chooses the interpreter: the one named, else that of `$VIRTUAL_ENV`, else `python3` on PATH. A choice that turns out to be
/// broken is an error, never a reason to take the next one.
pub(crate) fn choose(named: Option<&str>, surroundings: &Surroundings) -> Result<Interpreter, String> {
    let virtual_env = surroundings.virtual_env.as_deref().filter(|folder| !folder.is_empty());
    let (path, source) = match (named, virtual_env) {
        (Some(named), _) => (from_flag(named, surroundings)?, Source::Flag),
        (None, Some(folder)) => (Path::new(folder).join("bin/python"), Source::Environment),
        (None, None) => {
            let found = look_up("python3", surroundings);
            let hint = "no `python3` on PATH; name a Python with --python, or activate a virtual environment";
            (found.ok_or(hint)?, Source::Path)
        }
    };
    let interpreter = Interpreter { path, source };
    check(&interpreter)?;
    Ok(interpreter)
}

fn from_flag(named: &str, surroundings: &Surroundings) -> Result<PathBuf, String> {
    let path = Path::new(named);
    if path.is_dir() {
        return Ok(path.join("bin/python"));
    }
    if named.contains('/') {
        return Ok(path.to_owned());
    }
    look_up(named, surroundings)
        .ok_or_else(|| format!("no Python interpreter `{named}` (from --python) on PATH, nor a folder of that name"))
}

fn look_up(name: &str, surroundings: &Surroundings) -> Option<PathBuf> {
    let folders = std::env::split_paths(surroundings.path.as_ref()?);
    folders.map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

fn check(interpreter: &Interpreter) -> Result<(), String> {
    let path = &interpreter.path;
    if is_executable(path) {
        return Ok(());
    }
    let reason = match (std::fs::read_link(path), path.exists()) {
        (Ok(target), false) => format!("is a broken link to `{}`; make the environment anew", target.display()),
        (_, false) if interpreter.source == Source::Environment => "does not exist; is the environment still there?".to_owned(),
        (_, false) => "does not exist".to_owned(),
        (_, true) => "is no executable file".to_owned(),
    };
    Err(format!("{interpreter} {reason}"))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn folder_with(name: &str) -> TempDir {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn surroundings(virtual_env: Option<&Path>, path: &Path) -> Surroundings {
        Surroundings { virtual_env: virtual_env.map(Into::into), path: Some(path.into()) }
    }

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_path() {
        let (venv, path) = (folder_with("bin/python"), folder_with("python3"));
        let surroundings = surroundings(Some(venv.path()), path.path());
        let chosen = |named| choose(named, &surroundings).unwrap();
        assert_eq!(chosen(Some("python3")), Interpreter { path: path.path().join("python3"), source: Source::Flag });
        assert_eq!(chosen(None), Interpreter { path: venv.path().join("bin/python"), source: Source::Environment });
        let without = Surroundings { virtual_env: Some(OsString::new()), ..surroundings };
        assert_eq!(choose(None, &without), Ok(Interpreter { path: path.path().join("python3"), source: Source::Path }));
    }

    #[test]
    fn a_path_a_name_and_an_environments_folder_are_accepted() {
        let (venv, path) = (folder_with("bin/python"), folder_with("python3.12"));
        let surroundings = surroundings(None, path.path());
        let venv_name = venv.path().to_str().unwrap();
        assert_eq!(choose(Some(venv_name), &surroundings).unwrap().path, venv.path().join("bin/python"));
        assert_eq!(choose(Some("python3.12"), &surroundings).unwrap().path, path.path().join("python3.12"));
        let full = path.path().join("python3.12");
        assert_eq!(choose(full.to_str(), &surroundings).unwrap().path, full);
    }

    #[test]
    fn a_choice_that_cannot_be_run_says_what_was_looked_for_and_who_chose_it() {
        let empty = TempDir::new().unwrap();
        let error = |named, virtual_env| choose(named, &surroundings(virtual_env, empty.path())).unwrap_err();
        assert!(error(Some("python9"), None).contains("`python9` (from --python)"));
        assert!(error(Some("/nowhere/python"), None).contains("`/nowhere/python` (from --python) does not exist"));
        assert!(error(None, Some(Path::new("/nowhere"))).contains("`/nowhere/bin/python` (from $VIRTUAL_ENV) does not exist"));
        assert!(error(None, None).contains("`python3`"));
        std::fs::create_dir(empty.path().join("bin")).unwrap();
        symlink("/nowhere/python3.9", empty.path().join("bin/python")).unwrap();
        assert!(error(None, Some(empty.path())).contains("is a broken link to `/nowhere/python3.9`"));
        std::fs::write(empty.path().join("python3"), "").unwrap();
        assert!(error(Some(empty.path().join("python3").to_str().unwrap()), None).contains("is no executable file"));
    }
}
