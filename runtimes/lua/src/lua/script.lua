-- The forms a script may have, and how its functions are called.

local failure, vector, context, null = ...
local _G, debug, ipairs, rawget, type = _G, debug, ipairs, rawget, type

local FUNCTIONS = { "setup", "self_test", "train", "input", "output", "output_batch" }
local FORMS = "return a table with `output(files, ctx)`, `output_batch(requests, ctx)`, `train(files, ctx)` or `input(files, ctx)`, "
  .. "or one with `handleTrainFile`, `handleInputFile` and `handleOutputFile`"

local ARGUMENTS = { output_batch = "(requests, ctx)" }

local function is_callable(value)
  local metatable = debug.getmetatable(value)
  return type(value) == "function" or (type(metatable) == "table" and rawget(metatable, "__call") ~= nil)
end

-- The function `name` of the script's table, where there is one. If it was declared with a colon, it is called so.
local function member(module, name)
  -- Scripts that guard their globals against typing errors raise when one is looked up that is not there.
  local found = module == _G and rawget(module, name) or module ~= _G and module[name] or nil
  if not is_callable(found) then
    return nil
  end
  if type(found) ~= "function" then
    return function(...)
      return found(...)
    end
  elseif debug.getlocal(found, 1) == "self" then
    return function(...)
      return found(module, ...)
    end
  end
  return found
end

-- Calls a handler of the first wrappers' form once a file; its results, or nil if it never returned any.
local function results_of(handle, files)
  local results, any = {}, false
  for i, file in ipairs(files) do
    local result = handle(file.uri, file:read())
    any = any or result ~= nil
    results[i] = result == nil and null or result
  end
  return any and results or nil
end

local function from_handlers(module)
  local train, input, output =
    member(module, "handleTrainFile"), member(module, "handleInputFile"), member(module, "handleOutputFile")
  return {
    handlers = true,
    setup = member(module, "setup"),
    self_test = member(module, "self_test"),
    train = train and function(files)
      return results_of(train, files)
    end,
    input = input and function(files)
      return results_of(input, files)
    end,
    output = output and function(files)
      local numbers = {}
      for _, file in ipairs(files) do
        vector.append(numbers, output(file.uri, file:read()), "`handleOutputFile`")
      end
      return numbers
    end,
  }
end

local function from_functions(module)
  local functions = {}
  for _, name in ipairs(FUNCTIONS) do
    functions[name] = member(module, name)
  end
  return functions
end

local function can_be_called(functions)
  return functions.train or functions.input or functions.output or functions.output_batch
end

local function a(value)
  return type(value) == "nil" and "nothing" or "a " .. type(value)
end

-- What to add for a function that the script has not.
local function advice(script, name)
  if script.handlers then
    return ("`handle%sFile(name, contents)`"):format(name:sub(1, 1):upper() .. name:sub(2))
  end
  local declaration = name .. (ARGUMENTS[name] or "(files, ctx)")
  if script.global then
    return ("`function %s`"):format(declaration)
  end
  return ("`function model.%s` to the table it returns"):format(declaration)
end

local script = {}

--- Runs the script's main chunk and finds its functions.
function script.load(chunk, name)
  local returned = chunk()
  local module = returned
  if returned == nil then
    module = _G
  elseif type(returned) ~= "table" then
    failure.signal("load_failed", ("`%s` returned %s; %s"):format(name, a(returned), FORMS))
  end
  local functions = from_functions(module)
  if not can_be_called(functions) then
    functions = from_handlers(module)
  end
  if not can_be_called(functions) then
    local found = returned == nil and "returned nothing and set no global function" or "returned a table without a function"
    failure.signal("load_failed", ("`%s` %s that can be called; %s"):format(name, found, FORMS))
  end
  functions.name, functions.global = name, returned == nil
  return functions
end

--- Calls `self_test`; whether it passed, as it has unless it returned false.
function script.self_test(self, ctx)
  return self.self_test(ctx) ~= false
end

--- Calls `train` or `input`.
function script.run(self, name, files, ctx)
  if not self[name] then
    failure.signal("function_missing", ("`%s` has no `%s`; add %s"):format(self.name, name, advice(self, name)))
  end
  return (self[name](files, ctx))
end

--- Makes the function that answers one request by a call of `output`: `true` and what `vector.answer` returns, or `false` and a
--- description of how it failed. It is made once, so that a call of it does nothing but what differs between calls.
function script.answering(self, common)
  local function output(files, ctx)
    return vector.answer(script.run(self, "output", files, ctx), "`output`")
  end
  return function(params, call, deadline, request_id, files)
    return failure.protect(output, files, context.new(common, call, params, deadline, request_id))
  end
end

--- Calls `output_batch`; for each answer `{true, element type, bytes}` or `{false, failure}`.
function script.output_batch(self, requests, ctx)
  local answers = self.output_batch(requests, ctx)
  if type(answers) ~= "table" then
    failure.signal("bad_output", ("`output_batch` returned %s; return a list with one vector a request"):format(a(answers)))
  elseif #answers ~= #requests then
    local message = "`output_batch` returned %d answers to %d requests; return a list with one vector a request"
    failure.signal("bad_output", message:format(#answers, #requests))
  end
  local packed = {}
  for i = 1, #requests do
    packed[i] = { failure.protect(vector.pack, answers[i], ("for request %d `output_batch`"):format(i)) }
  end
  return packed
end

return script
