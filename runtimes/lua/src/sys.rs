//! What mlua's safe functions cannot do as we want it: opening a Lua state, and answering a request at little cost.
//!
//! With an allocator of Lua's own, mlua makes a protected call for every string and every table. Here a whole request is handed over within
//! one.

#![allow(unsafe_code, reason = "a state with its own allocator can only be made, and used at little cost, through Lua's C API")]

use std::ffi::{CStr, c_int};
use std::os::unix::ffi::OsStrExt;
use std::{ptr, slice};

use dunnage_protocol::{File, Request};
use mlua::ffi::{
    lua_State, lua_call, lua_createtable, lua_pushlstring, lua_pushnil, lua_pushnumber, lua_pushvalue, lua_rawseti, lua_remove,
    lua_setfield, lua_setmetatable, lua_touserdata, luaL_newstate, luaL_openlibs,
};
use mlua::{FromLuaMulti, Function, LightUserData, Lua, Table};

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

/// Memory in which Lua leaves the numbers of an answer. It lives as long as the process.
#[derive(Debug)]
pub(crate) struct Floats {
    start: *mut f64,
}

impl Floats {
    /// How many numbers there is room for. Longer answers go another way, where one copy more does not matter.
    pub(crate) const CAPACITY: usize = 8 << 10;

    /// Room for numbers, all of them zero.
    pub(crate) fn new() -> Self {
        Self { start: Box::leak(vec![0.0; Self::CAPACITY].into_boxed_slice()).as_mut_ptr() }
    }

    /// Where it is, for `vector.lua`.
    pub(crate) fn pointer(&self) -> LightUserData {
        LightUserData(self.start.cast())
    }

    /// The first `count` numbers as bytes; as many as there is room for, if that is fewer.
    pub(crate) fn bytes(&self, count: i64) -> &[u8] {
        let count = usize::try_from(count).unwrap_or(0).min(Self::CAPACITY);
        // SAFETY: the memory is initialized, is never freed, and is only written by Lua, which does not run before the borrow ends:
        // it runs on this thread alone, and `self` belongs to whoever calls it.
        unsafe { slice::from_raw_parts(self.start.cast(), count * size_of::<f64>()) }
    }
}

/// What one request is answered with, and what for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The request.
    pub(crate) request: &'a Request,
    /// Its parameters, where there are any.
    pub(crate) params: Option<&'a Table>,
    /// The number of the call that it belongs to.
    pub(crate) call: u64,
    /// When the worker will be killed.
    pub(crate) deadline: Option<f64>,
}

/// Hands requests over to what `script.answering` has made.
#[derive(Debug)]
pub(crate) struct Answering {
    hand_over: Function,
}

impl Answering {
    /// Makes the function once, which would cost more than calling it.
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Self> {
        // SAFETY: `hand_over` is only called by `call`, with what it wants.
        Ok(Self { hand_over: unsafe { lua.create_c_function(hand_over)? } })
    }

    /// Calls `answer(params, call, deadline, request_id, files)`, which returns three values; `file` is the metatable of files.
    ///
    /// # Errors
    ///
    /// What Lua raises outside of the script's own function, as it does without memory.
    pub(crate) fn call<R: FromLuaMulti>(&self, answer: &Function, file: &Table, asked: Asked<'_>) -> mlua::Result<R> {
        let pointer = LightUserData(ptr::from_ref(&asked).cast_mut().cast());
        self.hand_over.call((pointer, file, answer, asked.params))
    }
}

/// Takes a pointer to an [`Asked`], the metatable of files, `answer` and its first argument; returns what `answer` does.
unsafe extern "C-unwind" fn hand_over(state: *mut lua_State) -> c_int {
    // SAFETY: Lua runs this within the protected call of `Answering::call`, whose `asked` outlives it. Nothing here owns anything that an
    // error would leave behind, nor needs more places on the stack than every C function has.
    unsafe {
        let asked = &*lua_touserdata(state, 1).cast::<Asked<'_>>();
        #[expect(clippy::cast_precision_loss, reason = "so many calls there are not")]
        lua_pushnumber(state, asked.call as f64);
        match asked.deadline {
            Some(deadline) => lua_pushnumber(state, deadline),
            None => lua_pushnil(state),
        }
        push_text(state, asked.request.request_id.as_bytes());
        push_files(state, 2, &asked.request.files);
        lua_call(state, 5, 3);
    }
    3
}

/// The list of files that a script is given, each with the metatable `file`.
///
/// # Errors
///
/// If there is no memory.
pub(crate) fn files(lua: &Lua, file: &Table, files: &[File]) -> mlua::Result<Table> {
    // SAFETY: as in `answer`.
    unsafe {
        lua.exec_raw(file, |state| {
            push_files(state, 1, files);
            lua_remove(state, 1);
        })
    }
}

/// Pushes the list of `files`. The value at `metatable` becomes the metatable of each.
///
/// # Safety
///
/// As for any function of Lua's that allocates: it may leave by an error, and needs a protected call around it.
unsafe fn push_files(state: *mut lua_State, metatable: c_int, files: &[File]) {
    // SAFETY: the caller's promise. There is one table below each that is filled, and what is set is on the top.
    unsafe {
        lua_createtable(state, c_int::try_from(files.len()).unwrap_or(0), 0);
        for (index, file) in (1..).zip(files) {
            lua_createtable(state, 0, 4);
            set_text(state, c"uri", file.uri.as_bytes());
            set_text(state, c"path", file.path.as_os_str().as_bytes());
            #[expect(clippy::cast_precision_loss, reason = "so do Lua's own numbers")]
            lua_pushnumber(state, file.size as f64);
            lua_setfield(state, -2, c"size".as_ptr());
            if let Some(etag) = &file.etag {
                set_text(state, c"etag", etag.as_bytes());
            }
            lua_pushvalue(state, metatable);
            lua_setmetatable(state, -2);
            lua_rawseti(state, -2, index);
        }
    }
}

/// Sets a field of the table on the top.
///
/// # Safety
///
/// As for [`push_files`].
unsafe fn set_text(state: *mut lua_State, name: &CStr, text: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        push_text(state, text);
        lua_setfield(state, -2, name.as_ptr());
    }
}

/// Pushes a string.
///
/// # Safety
///
/// As for [`push_files`].
unsafe fn push_text(state: *mut lua_State, text: &[u8]) {
    // SAFETY: the caller's promise; Lua copies the text.
    unsafe {
        lua_pushlstring(state, text.as_ptr().cast(), text.len());
    }
}
