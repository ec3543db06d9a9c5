//! What decides about counts besides the code: the compiler, the C library and Valgrind.

use std::process::Command;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// The versions of the tools, as they call themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// `rustc`.
    pub compiler: String,
    /// The C library, whose allocator and copying are counted, too.
    pub library: String,
    /// Valgrind, which also decides which of the processor's abilities programs see.
    pub valgrind: String,
}

impl Tools {
    /// Those that are here.
    ///
    /// # Errors
    ///
    /// When one of them cannot be asked.
    pub fn here() -> anyhow::Result<Self> {
        Ok(Self {
            compiler: said("rustc", &["--version"])?,
            library: said("getconf", &["GNU_LIBC_VERSION"])?,
            valgrind: said("valgrind", &["--version"])?,
        })
    }
}

fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("`{program}` cannot be run"))?;
    ensure!(output.status.success(), "`{program}` ended with {}", output.status);
    Ok(String::from_utf8(output.stdout).with_context(|| format!("`{program}` says something that is no text"))?.trim().to_owned())
}
