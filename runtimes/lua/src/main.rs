//! `dunnage-lua`: runs Lua scripts on LuaJIT. What a script can rely on is in `README.md`.
//!
//! [`backend`] implements [`dunnage_runtime::Backend`]; [`interpreter`] holds the Lua state and the half of this runtime that
//! is written in Lua (the folder `lua`); [`call`] is what a script's `ctx` asks; [`value`] turns values into JSON and back; [`sys`]
//! hands requests over to Lua.

mod backend;
mod call;
mod interpreter;
mod paths;
mod sys;
mod value;

use std::error::Error;
use std::process::ExitCode;

use backend::LuaBackend;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dunnage-lua: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let socket = dunnage_runtime::inherited_socket()
        .map_err(|error| format!("this program is started by `dunnage serve` and takes its socket from there: {error}"))?;
    let mut backend = LuaBackend::new().map_err(|error| format!("cannot start LuaJIT: {error}"))?;
    Ok(dunnage_runtime::serve(socket, &mut backend)?)
}
