-- `files` and `ctx`, as scripts see them.

local failure, read_file, call_numbered = ...
local check, raise = failure.check, failure.raise
local getmetatable, io, ipairs, rawequal, rawget, rawset, select, setmetatable, table, tostring, type =
  getmetatable, io, ipairs, rawequal, rawget, rawset, select, setmetatable, table, tostring, type

-- The key under which a context and its state keep the call they belong to, or its number.
local CALL = {}
-- How many entries of the state are fetched at a time.
local PAGE = 1000

local context = {}

local File = {}
File.__index = File
context.File = File

-- The path of a file that a method was called on.
local function path_of(self, method)
  if getmetatable(self) ~= File then
    raise(("call `%s` with a colon, as in `files[1]:%s()`"):format(method, method))
  end
  return self.path
end

--- The file's contents as a string.
function File:read()
  return (check(read_file(path_of(self, "read"))))
end

--- The file, opened for reading; as from `io.open`.
function File:open()
  local handle, message = io.open(path_of(self, "open"), "rb")
  if not handle then
    raise(message)
  end
  return handle
end

--- Iterates over the file's lines; as `io.lines` does.
function File:lines()
  return io.lines(path_of(self, "lines"))
end

local known_number, known_call

-- The call behind a context or its state. Where there is a number it is made when it is first asked for.
local function call_behind(self)
  local call = rawget(self, CALL)
  if type(call) ~= "number" then
    return call
  end
  if call ~= known_number then
    known_call = call_numbered(call)
    known_number = call
  end
  return known_call
end

local state = {}

-- The call behind a state that a method was called on.
local function call_of(self, method)
  local call = type(self) == "table" and call_behind(self)
  if not call then
    raise(("call `%s` with a colon, as in `ctx.state:%s(…)`"):format(method, method))
  end
  return call
end

function state:get(key, default)
  local value = check(call_of(self, "get"):state_get(key))
  if value == nil then
    return default
  end
  return value
end

function state:set(key, value)
  check(call_of(self, "set"):state_set(key, value))
end

function state:delete(key)
  return (check(call_of(self, "delete"):state_delete(key)))
end

function state:increment(key, by)
  return (check(call_of(self, "increment"):state_increment(key, by == nil and 1 or by)))
end

function state:compare_and_set(key, old, new)
  return (check(call_of(self, "compare_and_set"):state_compare_and_set(key, old, new)))
end

--- Iterates over the keys that begin with `prefix` and their values, in the order of the keys' bytes.
function state:scan(prefix)
  local call = call_of(self, "scan")
  local keys, values = check(call:state_scan(prefix or "", nil, PAGE))
  local at = 0
  return function()
    if at > 0 and at == #keys then
      keys, values = check(call:state_scan(prefix or "", keys[at], PAGE))
      at = 0
    end
    at = at + 1
    return keys[at], values[at]
  end
end

local State = { __newindex = state.set }

function State:__index(key)
  local method = state[key]
  if method then
    return method
  end
  return (check(call_behind(self):state_get(key)))
end

-- Scripts may call with a dot or with a colon; this drops what a colon puts in front.
local function without_self(self, first, ...)
  if rawequal(first, self) then
    return ...
  end
  return first, ...
end

local function joined(...)
  local words = {}
  for i = 1, select("#", ...) do
    words[i] = tostring((select(i, ...)))
  end
  return table.concat(words, " ")
end

-- The fields of a context that are made, or asked for, when they are used.
local fields = {}

function fields.new_artifact(_, call)
  return function()
    return (check(call:new_artifact()))
  end
end

function fields.progress(ctx, call)
  return function(...)
    check(call:progress(without_self(ctx, ...)))
  end
end

function fields.log(ctx, call)
  local log = {}
  for _, level in ipairs({ "debug", "info", "warning", "error" }) do
    log[level] = function(...)
      call:log(level, joined(without_self(log, ...)))
    end
  end
  return setmetatable(log, {
    __call = function(_, ...)
      call:log("info", joined(without_self(ctx, ...)))
    end,
  })
end

local Context = {}

function Context:__index(key)
  if key == "cancelled" then
    return (check(call_behind(self):is_cancelled()))
  end
  local make = fields[key]
  if make then
    local value = make(self, call_behind(self))
    rawset(self, key, value)
    return value
  end
end

--- Makes the context of a call. `common` are the fields that all calls of the script share.
function context.new(common, call, params, deadline, request_id)
  return setmetatable({
    [CALL] = call,
    state = setmetatable({ [CALL] = call }, State),
    device = common.device,
    service = common.service,
    artifact = common.artifact,
    version = common.version,
    params = params or {},
    deadline = deadline,
    request_id = request_id,
    -- Jobs set these: a place is kept for them, so that the table is made in its full size.
    job_id = nil,
    attempt = nil,
    seed = nil,
  }, Context)
end

return context
