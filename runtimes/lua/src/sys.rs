//! Opening a Lua state, the one thing that mlua's safe functions cannot do as we want it.

#![allow(unsafe_code, reason = "a state with its own allocator can only be made through Lua's C API")]

use mlua::Lua;
use mlua::ffi::{luaL_newstate, luaL_openlibs};

/// Opens a Lua state with every standard library, which can load C modules. It lives as long as the process.
///
/// mlua's own constructor would have Lua allocate through Rust, which ends the process where Lua would raise an error, and
/// would replace `pcall` by one that compiled code cannot call.
pub(crate) fn open() -> mlua::Result<Lua> {
    // SAFETY: the state is new and valid, is used by this thread only, and is never closed, so that it outlives every
    // handle that mlua makes. C modules, `ffi` and `debug` let a script do anything to this process; scripts are trusted
    // code, and the server outside of this process takes no harm.
    unsafe {
        let state = luaL_newstate();
        if state.is_null() {
            return Err(mlua::Error::MemoryError("there is no memory for a Lua state".to_owned()));
        }
        luaL_openlibs(state);
        Ok(Lua::get_or_init_from_ptr(state).clone())
    }
}
