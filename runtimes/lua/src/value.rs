//! Values, between Lua and the rest of the world.
//!
//! In Lua a table stands for both of JSON's containers. A table with elements is a list, a table with named fields an object;
//! an empty one is an object, unless it was read from a JSON list or made by `dunnage.empty_array()`.

use std::fmt;

use dunnage_types::{Array, Dtype, JsonObject, StateValue};
use mlua::{Function, Lua, LuaSerdeExt, LuaString, MetaMethod, Table, UserData, UserDataMethods, Value};
use serde_json::{Number, Value as Json};

/// How deeply tables may be nested; a table that contains itself is deeper than that.
const MAX_DEPTH: usize = 100;

/// What `dunnage.bytes(s)` makes: a string that is to be kept as bytes even if it looks like text.
#[derive(Debug)]
pub(crate) struct Bytes(Vec<u8>);

impl Bytes {
    /// Takes the bytes of a Lua string.
    pub(crate) fn new(text: &LuaString) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl UserData for Bytes {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Len, |_, bytes, ()| Ok(bytes.0.len()));
        methods.add_meta_method(MetaMethod::ToString, |lua, bytes, ()| lua.create_string(&bytes.0));
    }
}

/// The functions of `array.lua` that take an array apart and put one together.
#[derive(Debug)]
pub(crate) struct ArrayFunctions {
    /// From an array to its element type, shape and bytes.
    pub(crate) parts: Function,
    /// From element type, shape and bytes to an array.
    pub(crate) from_parts: Function,
}

/// A JSON value as a Lua value; `null` is `dunnage.null`.
pub(crate) fn from_json(lua: &Lua, value: &Json) -> mlua::Result<Value> {
    lua.to_value(value)
}

/// A value of the state as a Lua value.
pub(crate) fn from_state(lua: &Lua, value: StateValue) -> mlua::Result<Value> {
    match value {
        StateValue::Json(value) => from_json(lua, &value),
        StateValue::Bytes(bytes) => lua.create_string(bytes).map(Value::String),
        StateValue::Array(array) => from_array(lua, &array),
    }
}

/// What a Lua value is in JSON; `nil` is `null`.
///
/// # Errors
///
/// [`ValueError::Unfit`] if it, or something in it, has no place there.
pub(crate) fn to_json(lua: &Lua, value: &Value) -> Result<Json, ValueError> {
    json(lua, value, 0)
}

/// What a Lua table is as a JSON object.
///
/// # Errors
///
/// [`ValueError::Unfit`] as for [`to_json`], and if it is a list.
pub(crate) fn to_object(lua: &Lua, value: &Value) -> Result<JsonObject, ValueError> {
    match to_json(lua, value)? {
        Json::Object(object) => Ok(object),
        Json::Null => Ok(JsonObject::new()),
        _ => Err(unfit("no table with named fields")),
    }
}

/// What a Lua number is in JSON: an integer if it is whole.
///
/// # Errors
///
/// [`ValueError::Unfit`] if it is no number, or is NaN or infinite.
pub(crate) fn to_number(value: &Value) -> Result<Number, ValueError> {
    match *value {
        Value::Integer(number) => Ok(number.into()),
        Value::Number(number) => Number::from_f64(number).ok_or_else(|| unfit(number)),
        ref other => Err(unfit(described(other))),
    }
}

/// What a Lua value is in the state. A string is text if it is valid UTF-8, and bytes if not.
///
/// # Errors
///
/// [`ValueError::Unfit`] as for [`to_json`].
pub(crate) fn to_state(lua: &Lua, value: &Value) -> Result<StateValue, ValueError> {
    match value {
        Value::String(text) => Ok(match text.to_str() {
            Ok(text) => StateValue::Json(Json::String(text.to_owned())),
            Err(_) => StateValue::Bytes(text.as_bytes().to_vec()),
        }),
        Value::UserData(data) if data.is::<Bytes>() => Ok(StateValue::Bytes(data.borrow::<Bytes>()?.0.clone())),
        Value::Other(_) => to_array(lua, value).map(StateValue::Array),
        other => to_json(lua, other).map(StateValue::Json),
    }
}

/// What Lua's `type` says of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) | Value::Error(_) => "userdata",
        // LuaJIT's `ffi` makes the only other values there are.
        Value::Other(_) => "cdata",
        other => other.type_name(),
    }
}

fn json(lua: &Lua, value: &Value, depth: usize) -> Result<Json, ValueError> {
    match value {
        Value::Nil => Ok(Json::Null),
        Value::LightUserData(pointer) if pointer.0.is_null() => Ok(Json::Null),
        Value::Boolean(flag) => Ok(Json::Bool(*flag)),
        Value::Integer(_) | Value::Number(_) => to_number(value).map(Json::Number),
        Value::String(text) => match text.to_str() {
            Ok(text) => Ok(Json::String(text.to_owned())),
            Err(_) => Err(unfit("a string that is not UTF-8")),
        },
        Value::Table(_) if depth == MAX_DEPTH => {
            Err(unfit(format_args!("nested more than {MAX_DEPTH} tables deep; perhaps a table contains itself")))
        }
        Value::Table(table) if table.raw_len() > 0 || is_list(lua, table) => list(lua, table, depth),
        Value::Table(table) => object(lua, table, depth),
        other => Err(unfit(described(other))),
    }
}

fn list(lua: &Lua, table: &Table, depth: usize) -> Result<Json, ValueError> {
    let length = table.raw_len();
    for pair in table.pairs::<Value, Value>() {
        match pair?.0 {
            Value::Integer(index) if usize::try_from(index).is_ok_and(|index| (1..=length).contains(&index)) => {}
            Value::Integer(1..) => return Err(hole(length + 1)),
            key => return Err(unfit(format_args!("a list of {length} with another key, {}", named(&key)))),
        }
    }
    let elements = (1..=length).map(|index| match table.raw_get(index)? {
        Value::Nil => Err(hole(index)),
        value => json(lua, &value, depth + 1).map_err(|error| error.within(&format!("[{index}]"))),
    });
    elements.collect::<Result<_, _>>().map(Json::Array)
}

fn hole(index: usize) -> ValueError {
    unfit("nil; a list has no holes, use `dunnage.null`").within(&format!("[{index}]"))
}

fn object(lua: &Lua, table: &Table, depth: usize) -> Result<Json, ValueError> {
    let fields = table.pairs::<Value, Value>().map(|pair| {
        let (key, value) = pair?;
        let name = match &key {
            Value::String(name) => name.to_str().map_err(|_| unfit("a table with a key that is not UTF-8"))?.to_owned(),
            key => return Err(unfit(format_args!("a table with the key {}; keys are names, or 1, 2, 3, …", named(key)))),
        };
        let value = json(lua, &value, depth + 1).map_err(|error| error.within(&format!(".{name}")))?;
        Ok((name, value))
    });
    fields.collect::<Result<_, _>>().map(Json::Object)
}

fn is_list(lua: &Lua, table: &Table) -> bool {
    table.metatable().is_some_and(|metatable| metatable == lua.array_metatable())
}

fn to_array(lua: &Lua, value: &Value) -> Result<Array, ValueError> {
    let Some(functions) = lua.app_data_ref::<ArrayFunctions>() else { return Err(unfit(described(value))) };
    let (dtype, shape, data): (Option<LuaString>, Option<Vec<u64>>, Option<LuaString>) = functions.parts.call(value)?;
    let (Some(dtype), Some(shape), Some(data)) = (dtype, shape, data) else { return Err(unfit(described(value))) };
    let dtype = dtype_named(&dtype.to_string_lossy()).ok_or_else(|| unfit(described(value)))?;
    Ok(Array { dtype, shape, data: data.as_bytes().to_vec() })
}

fn from_array(lua: &Lua, array: &Array) -> mlua::Result<Value> {
    let functions = lua.app_data_ref::<ArrayFunctions>().filter(|_| array.is_consistent());
    match functions {
        Some(functions) => {
            functions.from_parts.call((dtype_name(array.dtype), array.shape.clone(), lua.create_string(&array.data)?))
        }
        None => Err(mlua::Error::runtime("the array's bytes do not fit its type and shape")),
    }
}

const DTYPES: [(Dtype, &str); 10] = [
    (Dtype::F32, "f32"),
    (Dtype::F64, "f64"),
    (Dtype::I8, "i8"),
    (Dtype::I16, "i16"),
    (Dtype::I32, "i32"),
    (Dtype::I64, "i64"),
    (Dtype::U8, "u8"),
    (Dtype::U16, "u16"),
    (Dtype::U32, "u32"),
    (Dtype::U64, "u64"),
];

fn dtype_named(name: &str) -> Option<Dtype> {
    DTYPES.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
}

fn dtype_name(dtype: Dtype) -> Option<&'static str> {
    DTYPES.iter().find(|(known, _)| *known == dtype).map(|(_, name)| *name)
}

fn described(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        other => format!("a {}", type_name(other)),
    }
}

fn named(key: &Value) -> String {
    match key {
        Value::String(name) => format!("`{}`", name.to_string_lossy()),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        other => described(other),
    }
}

fn unfit(found: impl fmt::Display) -> ValueError {
    ValueError::Unfit { place: String::new(), found: found.to_string() }
}

/// Why a Lua value cannot leave Lua.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    /// It, or something in it, has no place there.
    #[error("{} is {found}", if place.is_empty() { "the value" } else { place })]
    Unfit {
        /// Where in the value, such as `.weights[3]`; empty for the value itself.
        place: String,
        /// What is there.
        found: String,
    },
    /// Lua failed while it was read.
    #[error(transparent)]
    Lua(#[from] mlua::Error),
}

impl ValueError {
    fn within(self, outer: &str) -> Self {
        match self {
            Self::Unfit { place, found } => Self::Unfit { place: format!("{outer}{place}"), found },
            lua => lua,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn converted(source: &str) -> Result<Json, String> {
        let lua = Lua::new();
        lua.globals().set("null", lua.null()).unwrap();
        let value: Value = lua.load(source).eval().unwrap();
        to_json(&lua, &value).map_err(|error| error.to_string())
    }

    #[test]
    fn tables_are_lists_or_objects() {
        assert_eq!(converted("{1, 2.5, {a = {true, null}}, 'ä'}"), Ok(json!([1, 2.5, {"a": [true, null]}, "ä"])));
        assert_eq!(converted("{}"), Ok(json!({})));
        assert_eq!(converted("2^40"), Ok(json!(1_099_511_627_776_i64)));
    }

    #[test]
    fn what_json_cannot_say_is_refused_with_its_place() {
        for (source, expected) in [
            ("{a = {1, print}}", ".a[2] is a function"),
            ("{a = 0/0}", ".a is NaN"),
            ("-1/0", "the value is -inf"),
            ("{1, nil, 3}", "[2] is nil; a list has no holes, use `dunnage.null`"),
            ("{1, x = 2}", "the value is a list of 1 with another key, `x`"),
            ("{[3] = 1}", "the value is a table with the key 3; keys are names, or 1, 2, 3, …"),
            ("{a = '\\255'}", ".a is a string that is not UTF-8"),
        ] {
            assert_eq!(converted(source), Err(expected.to_owned()), "{source}");
        }
        let error = converted("(function() local t = {} t.t = t return t end)()").unwrap_err();
        assert!(error.contains("contains itself"), "{error}");
    }

    #[test]
    fn an_empty_list_stays_a_list() {
        let lua = Lua::new();
        for value in [json!([]), json!({}), json!({"a": [[], {}]})] {
            assert_eq!(to_json(&lua, &from_json(&lua, &value).unwrap()).unwrap(), value);
        }
    }
}
