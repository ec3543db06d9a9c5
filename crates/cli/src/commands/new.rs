//! `dunnage new`: a folder with a small model that works.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use dunnage_types::ServiceName;

use crate::failure::Usage;
use crate::text::print;

/// Make a folder with a small model that works
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage new gait
  dunnage new services/gait --lang lua

Nothing is ever overwritten.")]
pub(crate) struct New {
    /// The folder to make; its name becomes the service's
    #[arg(value_name = "NAME", value_hint = clap::ValueHint::DirPath)]
    folder: PathBuf,
    /// The model's language
    #[arg(long, value_enum, default_value_t = Language::Python)]
    lang: Language,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    Python,
    Lua,
}

impl New {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let shown = self.folder.display().to_string();
        let files = self.files()?;
        refuse_to_overwrite(&self.folder, &files)?;
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make the folder `{shown}`"))?;
        for (name, contents) in &files {
            write_new(&self.folder.join(name), contents)?;
        }
        let script = files[0].0;
        print(format_args!("made `{shown}` with {}", files.map(|(name, _)| name).join(", ")))?;
        let go_there = if self.folder == Path::new(".") { String::new() } else { format!("  cd {}\n", quoted(&shown)) };
        print(format_args!("\nNext:\n{go_there}  dunnage serve --reload\n\nThen read README.md, and change {script}."))?;
        Ok(ExitCode::SUCCESS)
    }

    fn files(&self) -> anyhow::Result<[(&'static str, String); 4]> {
        let name = service_name(&self.folder)?;
        let (script, model) = match self.lang {
            Language::Python => ("model.py", include_str!("../../templates/model.py")),
            Language::Lua => ("model.lua", include_str!("../../templates/model.lua")),
        };
        let filled = |template: &str| template.replace("@SCRIPT@", script).replace("@NAME@", name.as_str());
        Ok([
            (script, model.to_owned()),
            ("dunnage.toml", filled(include_str!("../../templates/dunnage.toml"))),
            ("README.md", filled(include_str!("../../templates/README.md"))),
            (".gitignore", include_str!("../../templates/gitignore").to_owned()),
        ])
    }
}

/// As a shell wants it when pasted, and `cd`, to which `-x` is an option.
fn quoted(path: &str) -> String {
    let path = if path.starts_with('-') { &format!("./{path}") } else { path };
    let is_plain = |character: char| character.is_alphanumeric() || "._-/".contains(character);
    if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// The folder's own name, also where it is written as `.`.
fn service_name(folder: &Path) -> anyhow::Result<ServiceName> {
    let absolute = match folder.canonicalize() {
        Ok(existing) => existing,
        Err(_) => std::path::absolute(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?,
    };
    match absolute.file_name() {
        Some(name) => Ok(ServiceName::nearest(&name.to_string_lossy())),
        None => Err(Usage(format!("`{}` has no name that could be the service's; name a folder", folder.display())).into()),
    }
}

fn refuse_to_overwrite(folder: &Path, files: &[(&str, String)]) -> Result<(), Usage> {
    let existing: Vec<_> =
        files.iter().map(|(name, _)| *name).filter(|name| folder.join(name).symlink_metadata().is_ok()).collect();
    if existing.is_empty() {
        return Ok(());
    }
    let (folder, existing) = (folder.display(), existing.join(", "));
    Err(Usage(format!("`{folder}` already has {existing}; nothing was written, choose another name")))
}

fn write_new(path: &Path, contents: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).with_context(|| failed_to_write(path))?;
    file.write_all(contents.as_bytes()).with_context(|| failed_to_write(path))
}

fn failed_to_write(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}
