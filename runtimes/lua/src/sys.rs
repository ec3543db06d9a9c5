//! The one step that is unsafe: opening a Lua that can load native code.

#![allow(unsafe_code, reason = "mlua marks states that can load C modules and have `ffi` and `debug` as unsafe")]

use mlua::{Lua, LuaOptions, StdLib};

/// Opens a Lua state with every standard library, which can load C modules.
pub(crate) fn open() -> Lua {
    // The script's `pcall` stays Lua's own, which compiled code can call. A panic of ours that a script catches is told to
    // it as any other error.
    let options = LuaOptions::new().catch_rust_panics(false);
    // SAFETY: C modules, `ffi` and `debug` let a script do anything to this process. Scripts are trusted code, run by whoever
    // owns the service, and this process holds nothing but the script's own work: the server outside of it takes no harm.
    unsafe { Lua::unsafe_new_with(StdLib::ALL, options) }
}
