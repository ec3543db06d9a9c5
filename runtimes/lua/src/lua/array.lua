-- `dunnage.array`: numbers of one type, side by side in memory, which compiled Lua reads and writes at full speed.

local failure = ...
local ffi = require("ffi")
local raise = failure.raise
local ipairs, pairs, setmetatable, table, tonumber, tostring, type = ipairs, pairs, setmetatable, table, tonumber, tostring, type

local array = {}

--- The C type of each element type.
array.ctypes = {
  f32 = "float",
  f64 = "double",
  i8 = "int8_t",
  i16 = "int16_t",
  i32 = "int32_t",
  i64 = "int64_t",
  u8 = "uint8_t",
  u16 = "uint16_t",
  u32 = "uint32_t",
  u64 = "uint64_t",
}

-- The C structure of each element type. An array is one of them, `data` right behind `length`.
local structures = {}
-- The shapes of those arrays that have more or less than one dimension.
local shapes = setmetatable({}, { __mode = "k" })

local function shape_of(self)
  local shape, copy = shapes[self] or { tonumber(self.length) }, {}
  for dimension, length in ipairs(shape) do
    copy[dimension] = length
  end
  return copy
end

local function totable(self)
  local list = {}
  for i = 1, #self do
    list[i] = self[i]
  end
  return list
end

local function is_index(self, key)
  return type(key) == "number" and key >= 1 and key <= self.length and key % 1 == 0
end

local function metatable(dtype)
  local whole = dtype:find("^[iu]") ~= nil
  local meta = {}

  -- Behind the end there is nil, as in a table. Integers are read as Lua numbers, exactly up to 2^53.
  function meta.__index(self, key)
    if is_index(self, key) then
      return tonumber(self.data[key - 1])
    elseif key == "shape" then
      return shape_of(self)
    elseif key == "dtype" then
      return dtype
    elseif key == "totable" then
      return totable
    end
  end

  function meta.__newindex(self, key, value)
    if not is_index(self, key) then
      raise(("index %s is outside of the array, which has %d elements"):format(tostring(key), tonumber(self.length)))
    elseif type(value) ~= "number" then
      raise(("an array holds numbers, not a %s"):format(type(value)))
    end
    local old = self.data[key - 1]
    self.data[key - 1] = value
    if whole and tonumber(self.data[key - 1]) ~= value then
      self.data[key - 1] = old
      raise(("%s does not fit into an element of type %s"):format(tostring(value), dtype))
    end
  end

  function meta.__len(self)
    return tonumber(self.length)
  end

  function meta.__tostring(self)
    return ("dunnage.array: %s [%s]"):format(dtype, table.concat(shape_of(self), ", "))
  end

  return meta
end

for dtype, ctype in pairs(array.ctypes) do
  structures[dtype] = ffi.metatype(ffi.typeof("struct { int64_t length; " .. ctype .. " data[?]; }"), metatable(dtype))
end

local function allocate(dtype, length)
  return structures[dtype](length, length)
end

local function filled(dtype, source, length)
  local self = allocate(dtype, length)
  for i = 1, length do
    self[i] = source[i]
  end
  return self
end

--- `dunnage.array(source [, dtype])`: zeros, when `source` is a length; else the numbers of a list or another array.
function array.new(source, dtype)
  dtype = dtype or "f64"
  if not structures[dtype] then
    raise(("there is no element type `%s`; choose one of f32, f64, i8 to i64, u8 to u64"):format(tostring(dtype)))
  end
  if type(source) == "number" and source >= 0 and source % 1 == 0 then
    return allocate(dtype, source)
  elseif type(source) == "table" or array.is(source) then
    return filled(dtype, source, #source)
  end
  raise("an array is made from a length or from a list of numbers")
end

--- Whether `value` is an array.
function array.is(value)
  return type(value) == "cdata" and structures[array.dtype(value)] ~= nil
end

--- The element type of a piece of C data, or nil if it is no array.
function array.dtype(value)
  for dtype, structure in pairs(structures) do
    if ffi.istype(structure, value) then
      return dtype
    end
  end
end

--- Takes an array apart: element type, shape and bytes; nothing if `value` is none.
function array.parts(value)
  local dtype = array.dtype(value)
  if dtype then
    return dtype, shape_of(value), ffi.string(value.data, ffi.sizeof(array.ctypes[dtype]) * #value)
  end
end

--- Puts an array together again. There must be as many bytes as the type and the shape say.
function array.from_parts(dtype, shape, bytes)
  local length = 1
  for _, size in ipairs(shape) do
    length = length * size
  end
  local self = allocate(dtype, length)
  ffi.copy(self.data, bytes, #bytes)
  if #shape ~= 1 then
    shapes[self] = shape
  end
  return self
end

return array
