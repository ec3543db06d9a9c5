//! `dunnage-python`: starts a worker in the user's own Python.
//!
//! The server runs it with the worker's socket at descriptor 3. It chooses an interpreter (see `interpreter.rs`) and becomes it,
//! so that process id and descriptors stay; the interpreter then loads the extension module that lies beside this program.
//! Virtual environments and every build of Python count, because it is always the interpreter itself that runs.

mod interpreter;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const BOOTSTRAP: &str = include_str!("bootstrap.py");
const USAGE: &str = "\
Runs a Python script for `dunnage serve`, which starts this program itself.

Usage: dunnage-python [--python INTERPRETER] [--module FILE]

  --python INTERPRETER  the Python to run: a path, a name to look up on PATH, or the folder of a virtual environment
                        (default: that of $VIRTUAL_ENV, else `python3` on PATH)
  --module FILE         the extension module (default: libdunnage_python.so beside this program); a free-threaded
                        Python takes its own, which lies beside that: libdunnage_python.cpython-314t-x86_64-linux-gnu.so
  --version             print the version
";

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| start(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("dunnage-python: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for on the command line.
#[derive(Default)]
struct Arguments {
    python: Option<String>,
    module: Option<PathBuf>,
    answer: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{word}` wants a value\n\n{USAGE}"));
            match word.as_str() {
                "--python" => arguments.python = Some(value()?),
                "--module" => arguments.module = Some(value()?.into()),
                "--help" | "-h" => arguments.answer = Some(USAGE.to_owned()),
                "--version" => arguments.answer = Some(concat!("dunnage-python ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
                _ => return Err(format!("`{word}` is not known\n\n{USAGE}")),
            }
        }
        Ok(arguments)
    }
}

/// Becomes the interpreter; returns only if that fails, or if there was only something to print.
#[expect(clippy::print_stdout, reason = "the answer to --help and --version")]
fn start(arguments: &Arguments) -> Result<(), String> {
    if let Some(answer) = &arguments.answer {
        print!("{answer}");
        return Ok(());
    }
    let module = find_module(arguments.module.as_deref())?;
    let interpreter = interpreter::choose(arguments.python.as_deref(), &interpreter::Surroundings::of_this_process())?;
    let error = Command::new(&interpreter.path).arg("-c").arg(BOOTSTRAP).arg(module).exec();
    Err(format!("{interpreter} cannot be started: {error}"))
}

/// `libdunnage_python.so`, by the name that cargo gives it on this system. Whether the interpreter needs another one is found out by
/// itself, in `bootstrap.py`.
fn module_name() -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    format!("{DLL_PREFIX}dunnage_python{DLL_SUFFIX}")
}

fn find_module(named: Option<&Path>) -> Result<PathBuf, String> {
    let module = match named {
        Some(module) => module.to_owned(),
        None => std::env::current_exe()
            .map_err(|error| format!("cannot find out where this program is: {error}"))?
            .with_file_name(module_name()),
    };
    if module.is_file() {
        return Ok(module);
    }
    Err(format!("`{}` is missing; it belongs beside dunnage-python, and `--module` says where else it is", module.display()))
}
