//! What a script's `ctx` and `ctx.state` ask of the server.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use dunnage_runtime::{CallHost, HostError};
use dunnage_types::{LogLevel, Progress, StateValue};
use mlua::{Function, IntoLua, IntoLuaMulti, Lua, LuaString, MultiValue, UserData, UserDataMethods, Value};

use crate::value::{self, ValueError};

/// The server within one call, in the hands of `context.lua`.
///
/// Its functions raise nothing: they return `true` and their results, or `false` and why there are none, so that Lua can
/// raise a plain string that names the script's own line.
#[derive(Debug)]
pub(crate) struct Call(pub(crate) CallHost);

impl UserData for Call {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("state_get", |lua, call, key: Value| reply(lua, call.state_get(lua, &key)));
        methods.add_method("state_set", |lua, call, (key, value): (Value, Value)| reply(lua, call.state_set(lua, &key, &value)));
        methods.add_method("state_delete", |lua, call, key: Value| reply(lua, call.state_delete(&key)));
        methods
            .add_method("state_increment", |lua, call, (key, by): (Value, Value)| reply(lua, call.state_increment(lua, &key, &by)));
        methods.add_method("state_compare_and_set", |lua, call, (key, old, new): (Value, Value, Value)| {
            reply(lua, call.state_compare_and_set(lua, &key, &old, &new))
        });
        methods.add_method("state_scan", |lua, call, (prefix, after, limit): (Value, Value, u32)| {
            reply(lua, call.state_scan(lua, &prefix, &after, limit))
        });
        methods.add_method("new_artifact", |lua, call, ()| reply(lua, call.0.new_artifact().map_err(Refusal::from)));
        methods.add_method("progress", |lua, call, (fraction, message, metrics): (Value, Value, Value)| {
            reply(lua, call.progress(lua, &fraction, &message, &metrics))
        });
        methods.add_method("is_cancelled", |lua, call, ()| reply(lua, call.0.is_cancelled().map_err(Refusal::from)));
        methods.add_method("log", |_, call, (level, message): (String, LuaString)| {
            call.0.log(level.parse().unwrap_or(LogLevel::Info), message.to_string_lossy());
            Ok(())
        });
    }
}

impl Call {
    fn state_get(&self, lua: &Lua, key: &Value) -> Result<Value, Refusal> {
        let found = self.0.state_get(&text(key, "a key of the state")?)?;
        Ok(found.map(|value| value::from_state(lua, value)).transpose()?.unwrap_or(Value::Nil))
    }

    fn state_set(&self, lua: &Lua, key: &Value, value: &Value) -> Result<(), Refusal> {
        let key = text(key, "a key of the state")?;
        match state_value(lua, value)? {
            Some(value) => self.0.state_set(&key, value)?,
            None => drop(self.0.state_delete(&key)?),
        }
        Ok(())
    }

    fn state_delete(&self, key: &Value) -> Result<bool, Refusal> {
        Ok(self.0.state_delete(&text(key, "a key of the state")?)?)
    }

    fn state_increment(&self, lua: &Lua, key: &Value, by: &Value) -> Result<Value, Refusal> {
        let by = match by {
            Value::Integer(_) | Value::Number(_) => value::to_number(by).map_err(Refusal::State)?,
            other => return Err(Refusal::argument("the increment", "a number", other)),
        };
        let sum = self.0.state_increment(&text(key, "a key of the state")?, by)?;
        Ok(value::from_json(lua, &sum.into())?)
    }

    fn state_compare_and_set(&self, lua: &Lua, key: &Value, old: &Value, new: &Value) -> Result<bool, Refusal> {
        let (old, new) = (state_value(lua, old)?, state_value(lua, new)?);
        Ok(self.0.state_compare_and_set(&text(key, "a key of the state")?, old, new)?)
    }

    /// The keys and the values as two lists.
    fn state_scan(&self, lua: &Lua, prefix: &Value, after: &Value, limit: u32) -> Result<(Vec<String>, Vec<Value>), Refusal> {
        let after = if after.is_nil() { None } else { Some(text(after, "a key of the state")?) };
        let entries = self.0.state_scan(&text(prefix, "the prefix of a scan")?, after.as_deref(), limit)?;
        let values = entries.iter().map(|entry| value::from_state(lua, entry.value.clone())).collect::<mlua::Result<_>>()?;
        Ok((entries.into_iter().map(|entry| entry.key).collect(), values))
    }

    fn progress(&self, lua: &Lua, fraction: &Value, message: &Value, metrics: &Value) -> Result<(), Refusal> {
        let fraction = match fraction {
            Value::Nil => None,
            #[expect(clippy::cast_precision_loss, reason = "so do Lua's own numbers")]
            Value::Integer(fraction) => Some(*fraction as f64),
            Value::Number(fraction) => Some(*fraction),
            other => return Err(Refusal::argument("the fraction", "a number", other)),
        };
        let message = match message {
            Value::Nil => None,
            Value::String(message) => Some(message.to_string_lossy()),
            message => return Err(Refusal::argument("the message", "a string", message)),
        };
        let metrics = value::to_object(lua, metrics).map_err(Refusal::Metrics)?;
        Ok(self.0.progress(Progress { fraction, message, metrics })?)
    }
}

/// The calls that requests belong to.
///
/// The context of a request holds the number of its call, and gets the [`Call`] only when it first asks the server for something. Most
/// never do, and to make and to collect userdata costs as much as all else that a short call is handed over with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Rc<RefCell<Begun>>);

#[derive(Debug, Default)]
struct Begun {
    count: u64,
    latest: Option<CallHost>,
    /// It stands for all that have ended.
    before: Option<CallHost>,
}

impl Calls {
    /// Notes that a call has begun, and the one before it has ended; its number.
    pub(crate) fn begin(&self, host: &CallHost) -> u64 {
        let mut begun = self.0.borrow_mut();
        begun.count += 1;
        begun.before = begun.latest.replace(host.clone());
        begun.count
    }

    /// From a number to its call, for `context.lua`.
    pub(crate) fn function(&self, lua: &Lua) -> mlua::Result<Function> {
        let calls = self.clone();
        lua.create_function(move |_, number| calls.numbered(number))
    }

    fn numbered(&self, number: u64) -> mlua::Result<Call> {
        let begun = self.0.borrow();
        let host = if number == begun.count { &begun.latest } else { &begun.before };
        host.clone().map(Call).ok_or_else(|| mlua::Error::runtime(format!("no call has the number {number}")))
    }
}

/// Reads a whole file, for `File:read()`.
pub(crate) fn read_file(lua: &Lua, path: PathBuf) -> mlua::Result<MultiValue> {
    let contents = match std::fs::read(&path) {
        Ok(contents) => lua.create_string(contents).map_err(Refusal::from),
        Err(source) => Err(Refusal::File { path, source }),
    };
    reply(lua, contents)
}

fn reply<T: IntoLuaMulti>(lua: &Lua, result: Result<T, Refusal>) -> mlua::Result<MultiValue> {
    let (ok, mut values) = match result {
        Ok(values) => (true, values.into_lua_multi(lua)?),
        Err(refusal) => (false, refusal.to_string().into_lua_multi(lua)?),
    };
    values.push_front(ok.into_lua(lua)?);
    Ok(values)
}

fn text(value: &Value, what: &'static str) -> Result<String, Refusal> {
    match value {
        Value::String(text) => text.to_str().map(|text| text.to_owned()).map_err(|_| Refusal::NotUtf8(what)),
        other => Err(Refusal::argument(what, "a string", other)),
    }
}

fn state_value(lua: &Lua, value: &Value) -> Result<Option<StateValue>, Refusal> {
    if value.is_nil() { Ok(None) } else { value::to_state(lua, value).map(Some).map_err(Refusal::State) }
}

/// Why the script does not get what it asks for.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{0}; the state keeps numbers, strings, booleans, tables of them, and arrays")]
    State(ValueError),
    #[error("{0}; metrics are a table of names and numbers")]
    Metrics(ValueError),
    #[error("{what} is {wanted}, not a {found}")]
    Argument { what: &'static str, wanted: &'static str, found: &'static str },
    #[error("{0} must be UTF-8")]
    NotUtf8(&'static str),
    #[error("cannot read `{}`: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Lua(#[from] mlua::Error),
}

impl Refusal {
    fn argument(what: &'static str, wanted: &'static str, found: &Value) -> Self {
        Self::Argument { what, wanted, found: value::type_name(found) }
    }
}
