//! The interface is as `/openapi.json` describes it: schemathesis makes requests of all kinds from the description, good and bad ones,
//! one after the other and in sequences, and compares the answers with it.
//!
//! `tools/schemathesis.toml` says how it is used, and which of its checks are not ours. `make fuzz` asks more of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;

use crate::access::ADMIN;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// How many requests of a kind are made for each path and method, and from which seed; by default, few and always the same.
const EXAMPLES: &str = "DUNNAGE_SCHEMATHESIS_EXAMPLES";
const SEED: &str = "DUNNAGE_SCHEMATHESIS_SEED";

/// Does what each path is for, so that it has something to answer.
const MODEL: &str = r#"
local model = {}

function model.train(files, ctx)
  assert(io.open(ctx.new_artifact() .. "/weights", "w")):close()
  print("trained")
  return { files = #files }
end

function model.input(files, ctx)
  ctx.progress(0.5, "half of them")
  if ctx.params.case then
    error("no such luck")
  end
  return { files = #files }
end

function model.output(files)
  local sizes = {}
  for index, file in ipairs(files) do
    sizes[index] = file.size
  end
  return sizes
end

return model
"#;

fn setup() -> Setup {
    let setup = Setup::inline(Language::Lua, "model", MODEL).flags(&["--s3-endpoint", "http://127.0.0.1:1"]);
    let addresses = [setup.file("walk.csv", "1,2,3\n"), format!("file://{}/missing", setup.files_root().display())];
    let dictionary: String = addresses.iter().map(|address| format!("{address:?}\n")).collect();
    std::fs::write(setup.folder().join("addresses.txt"), dictionary).unwrap();
    std::fs::copy(Path::new(REPOSITORY).join("tools/schemathesis.toml"), setup.folder().join("schemathesis.toml")).unwrap();
    setup
}

#[track_caller]
fn is_as_described(setup: &Setup, service: &Service, headers: &[&str]) {
    let number = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let mut command = Command::new(schemathesis());
    command
        .current_dir(setup.folder())
        .args(["--config-file", "schemathesis.toml", "run"])
        .arg(format!("http://{}/openapi.json", service.address()))
        .args(["--max-examples", &number(EXAMPLES, "8"), "--seed", &number(SEED, "1"), "--continue-on-failure"])
        .args(headers.iter().flat_map(|header| ["--header", header]));
    let run = command.output().expect("schemathesis can be run");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    for phase in ["Coverage", "Fuzzing", "Stateful"] {
        assert!(said.contains(&format!("✅ {phase}")), "{phase} was left out: {said}");
    }
    assert!(said.contains("15 selected / 15 total"), "another number of operations: {said}");
}

fn schemathesis() -> PathBuf {
    let program = Path::new(REPOSITORY).join(".venv/bin/schemathesis");
    assert!(program.is_file(), "schemathesis is missing; run `tools/setup.sh test`");
    program
}

#[test]
fn a_server_for_everybody_is_as_it_is_described() {
    let setup = setup();
    is_as_described(&setup, &setup.start(), &[]);
}

#[test]
fn a_server_with_tokens_is_as_it_is_described() {
    let setup = setup().environment("DUNNAGE_TOKENS", &format!("admin {ADMIN}"));
    is_as_described(&setup, &setup.start(), &[&format!("Authorization: Bearer {ADMIN}")]);
}
