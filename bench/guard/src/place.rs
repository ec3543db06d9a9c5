//! Where the programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The folder with the release binaries, in which this program stands itself.
pub struct Place {
    folder: PathBuf,
    guard: PathBuf,
}

impl Place {
    /// The folder of this program.
    ///
    /// # Errors
    ///
    /// When this program cannot tell where it is.
    pub fn own() -> anyhow::Result<Self> {
        let guard = std::env::current_exe().context("this program's own path cannot be found out")?;
        let folder = guard.parent().context("this program is in no folder")?.to_owned();
        Ok(Self { folder, guard })
    }

    /// This program.
    pub(crate) fn guard(&self) -> &Path {
        &self.guard
    }

    /// The server.
    pub(crate) fn server(&self) -> anyhow::Result<PathBuf> {
        self.program("dunnage")
    }

    /// The runtime without a language.
    pub(crate) fn runtime(&self) -> anyhow::Result<PathBuf> {
        self.program("dunnage-fake")
    }

    fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let program = self.folder.join(name);
        ensure!(program.is_file(), "`{}` is missing; `make guard` builds it", program.display());
        Ok(program)
    }
}
