-- Failures: how ours are raised, and what is told of the script's.

local debug, error, getmetatable, pcall, rawget, setmetatable, table, tostring, type, xpcall =
  debug, error, getmetatable, pcall, rawget, setmetatable, table, tostring, type, xpcall

-- The name under which the files of this folder are loaded.
local SOURCE = "=[dunnage]"

local failure = {}

-- A failure with a code of its own, as opposed to whatever a script raises.
local Signal = {
  __tostring = function(signal)
    return signal.message
  end,
}

--- Raises a failure that ends the call with `code`, unless the script catches it.
function failure.signal(code, message, retry_after)
  error(setmetatable({ code = code, message = message, retry_after = retry_after }, Signal), 0)
end

--- Raises `message` as a string, the way Lua itself does it: with the script's line in front.
function failure.raise(message)
  local level = 2
  local frame = debug.getinfo(level, "Sl")
  while frame and (frame.source == SOURCE or frame.currentline < 0) do
    level = level + 1
    frame = debug.getinfo(level, "Sl")
  end
  local place = frame and frame.short_src .. ":" .. frame.currentline .. ": " or ""
  error(place .. message, 0)
end

--- Passes on what a function of the host returned: `true` and its results, or `false` and why there are none.
function failure.check(ok, ...)
  if ok then
    return ...
  end
  failure.raise((...))
end

-- Runs where the error is raised, perhaps with little stack left, so it only takes notes.
local function catch(value)
  return { value = value, caught = true, trace = debug.traceback("", 2) }
end

-- Everything up to our own call into the script, without our frames.
local function script_frames(trace)
  local lines, length = {}, 0
  for line in trace:gmatch("[^\n]+") do
    if line:find("^\t%[C%]: in function 'xpcall'") then
      length = #lines
    end
    if not line:find("^\t%[dunnage%]") then
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n", 1, length > 0 and length or #lines)
end

-- The text of an error value, or nil if it has none.
local function text_of(value)
  local kind = type(value)
  if kind == "string" or kind == "number" then
    return tostring(value)
  end
  local metatable = debug.getmetatable(value)
  if kind ~= "cdata" and not (type(metatable) == "table" and rawget(metatable, "__tostring")) then
    local message = kind == "table" and rawget(value, "message")
    return type(message) == "string" and message or nil
  end
  local ok, text = pcall(tostring, value)
  return ok and text or nil
end

local function describe(note)
  -- Where even `catch` failed, as it does without memory, there is only Lua's own message.
  if type(note) ~= "table" or not note.caught then
    note = { value = note, trace = "" }
  end
  local value = note.value
  if getmetatable(value) == Signal then
    return { code = value.code, message = value.message, retry_after = value.retry_after }
  end
  return { code = "script_error", message = text_of(value), value = value, traceback = script_frames(note.trace) }
end

local function finish(ok, ...)
  if ok then
    return true, ...
  end
  return false, describe((...))
end

--- Calls `f`: `true` and what it returned, or `false` and a description of how it failed.
function failure.protect(f, ...)
  return finish(xpcall(f, catch, ...))
end

return failure
