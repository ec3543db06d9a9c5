-- Output vectors: from whatever a script answers with to an element type and bytes.

local failure, array, buffer, capacity = ...
local ffi = require("ffi")
local debug, next, pcall, tonumber, tostring, type = debug, next, pcall, tonumber, tostring, type

local new_doubles = ffi.typeof("double[?]")
local new_integers = ffi.typeof("int64_t[?]")
-- More fit into no frame.
local max_length = 2 ^ 25
-- Memory of the host, for as many doubles as `capacity` says.
local shared = ffi.cast("double *", buffer)

-- Element types by the name LuaJIT gives the C type.
local dtypes = {}
for dtype, ctype in pairs(array.ctypes) do
  dtypes[tostring(ffi.typeof(ctype)):match("^ctype<(.+)>$")] = dtype
end

local function refuse(message, ...)
  failure.signal("bad_output", message:format(...))
end

local function a(value)
  local kind = type(value)
  return kind == "nil" and "nil" or "a " .. kind
end

-- Copies `length` numbers from anything that can be indexed.
local function doubles(source, length)
  local buffer = new_doubles(length)
  for i = 1, length do
    local element = source[i]
    if type(element) == "boolean" then
      element = element and 1 or 0
    elseif type(element) ~= "number" then
      refuse("element %d is %s; return a flat vector of numbers", i, a(element))
    end
    buffer[i - 1] = element
  end
  return buffer
end

local function refuse_other_keys(list, length)
  for key in next, list do
    if type(key) ~= "number" then
      refuse("the table has a field `%s`; return a flat vector of numbers", tostring(key))
    elseif key < 1 or key > length or key % 1 ~= 0 then
      refuse("there is an element %s but element %d is nil; return a flat vector of numbers", tostring(key), length + 1)
    end
  end
end

local function from_list(list)
  local length = #list
  local buffer = doubles(list, length)
  local count = 0
  for _ in next, list do
    count = count + 1
  end
  if count ~= length then
    refuse_other_keys(list, length)
  end
  return "f64", buffer, length
end

-- Copies a list to the host's memory; how many numbers it has, or nothing if it is too long or has anything else. Keys that come as
-- 1, 2, 3, … leave room for no others, so that one pass over the list is enough.
local function share(list)
  local count = 0
  for key, element in next, list do
    if key ~= count + 1 or type(element) ~= "number" or count == capacity then
      return nil
    end
    shared[count] = element
    count = count + 1
  end
  return count
end

-- Integers stay integers: every type of them becomes 64-bit.
local function integers(dtype, data, length)
  local buffer = new_integers(length)
  for i = 0, length - 1 do
    buffer[i] = data[i]
    if dtype == "u64" and buffer[i] < 0 then
      refuse("element %d is greater than any 64-bit signed integer", i + 1)
    end
  end
  return buffer
end

local function from_data(dtype, data, length)
  if dtype == "f32" or dtype == "f64" or dtype == "i64" then
    return dtype, data, length
  end
  return "i64", integers(dtype, data, length), length
end

-- The array itself is returned last, so that it outlives the reference into it.
local function from_array(dtype, value)
  if #value.shape ~= 1 then
    refuse("the array has %d dimensions; return one with a single dimension", #value.shape)
  end
  local dtype, data, length = from_data(dtype, value.data, #value)
  return dtype, data, length, value
end

-- What `ffi.new("double[3]")` makes; nothing if `value` is something else.
local function from_c_array(value)
  local ctype = tostring(ffi.typeof(value)):match("^ctype<(.-) %[[%d?]+%]>$")
  local dtype = dtypes[ctype]
  if dtype then
    return from_data(dtype, value, ffi.sizeof(value) / ffi.sizeof(array.ctypes[dtype]))
  end
end

local function method(value, name)
  local ok, found = pcall(function()
    return value[name]
  end)
  return ok and type(found) == "function" and found or nil
end

local function length_of(value)
  if type(value) == "table" then
    local metatable = debug.getmetatable(value)
    local length = metatable and metatable.__len
    return length and length(value)
  end
  local ok, length = pcall(function()
    return #value
  end)
  return ok and length or nil
end

-- Tensors and other objects of the script's libraries.
local function from_object(value)
  local totable = method(value, "totable")
  if totable then
    local list = totable(value)
    if type(list) ~= "table" then
      refuse("its method `totable` returned %s; it should return a flat list of numbers", a(list))
    end
    return from_list(list)
  end
  local length = tonumber(length_of(value))
  if length then
    -- Also where it is NaN.
    if not (length >= 0 and length <= max_length and length % 1 == 0) then
      refuse("its length is %s; return a flat vector of numbers", tostring(length))
    end
    return "f64", doubles(value, length), length
  end
end

local function elements(value)
  local kind = type(value)
  if kind == "table" then
    if not debug.getmetatable(value) then
      return from_list(value)
    end
    local dtype, data, length = from_object(value)
    if dtype then
      return dtype, data, length
    end
    return from_list(value)
  elseif kind == "cdata" then
    local dtype = array.dtype(value)
    if dtype then
      return from_array(dtype, value)
    end
    local dtype, data, length = from_c_array(value)
    if dtype then
      return dtype, data, length
    end
    return from_object(value)
  elseif kind == "userdata" then
    return from_object(value)
  end
end

local function refuse_kind(value, name)
  local kind = type(value)
  if kind == "nil" then
    refuse("%s returned nothing; return a vector of numbers, such as `{0.1, 0.2}`", name)
  elseif kind == "number" then
    refuse("%s returned a number; return a vector: `return {value}`", name)
  elseif kind == "cdata" then
    refuse("%s returned a `%s`; return a flat vector of numbers", name, tostring(ffi.typeof(value)):match("^ctype<(.+)>$"))
  end
  refuse("%s returned a %s; return a flat vector of numbers", name, kind)
end

local vector = {}

--- Reads what the function `name` returned: element type (f32, f64 or i64) and bytes.
function vector.pack(value, name)
  local dtype, data, length, owner = elements(value)
  if not dtype then
    refuse_kind(value, name)
  end
  return dtype, ffi.string(data, length * ffi.sizeof(array.ctypes[dtype])), owner
end

--- As `vector.pack`, but a short list of numbers alone is left in the host's memory: what is returned is their count.
function vector.answer(value, name)
  local count = type(value) == "table" and not debug.getmetatable(value) and share(value)
  if count then
    return count
  end
  return vector.pack(value, name)
end

--- Appends the numbers of what the function `name` returned to a list; here a single number is a vector of one.
function vector.append(list, value, name)
  if type(value) == "number" then
    list[#list + 1] = value
    return
  end
  local dtype, data, length = elements(value)
  if not dtype then
    refuse_kind(value, name)
  end
  for i = 0, length - 1 do
    list[#list + 1] = tonumber(data[i])
  end
end

return vector
