-- Every kind of call, named by `Params.case`.

local dunnage = require("dunnage")
local ffi = require("ffi")
ffi.cdef("void abort(void); unsigned sleep(unsigned);")

local function write_nowhere()
  ffi.cast("int *", 0)[0] = 1
end

local outputs = {
  sizes = function(files)
    local sizes = {}
    for index, file in ipairs(files) do
      sizes[index] = file.size
    end
    return sizes
  end,
  values = function(_, ctx) return ctx.params.values end,
  contents = function(files)
    local text, bytes = files[1]:read(), {}
    for place = 1, #text do
      bytes[place] = text:byte(place)
    end
    return bytes
  end,
  floats = function(_, ctx) return dunnage.array(ctx.params.values, "f32") end,
  tell = function() io.stderr:write("last words\n") return { 1 } end,
  nan = function() return { 1, 0 / 0 } end,
  infinite = function() return { -1 / 0 } end,
  nested = function() return { { 1 }, { 2 } } end,
  empty = function() return {} end,
  nothing = function() return nil end,
  text = function() return "12" end,
  texts = function() return { "1" } end,
  raise = function() error("no such luck") end,
  leave = function() os.exit(3) end,
  abort = function() ffi.C.abort() end,
  segfault = write_nowhere,
  hang = function() ffi.C.sleep(60) end,
}

local function wait(ctx)
  ctx.progress(nil, "waiting")
  while not ctx.cancelled do
  end
  dunnage.cancelled()
end

local function stubborn(ctx)
  ctx.progress(nil, "waiting")
  ffi.C.sleep(60)
end

local jobs = {
  given = function() end,
  speak = function(ctx)
    print("printed")
    ctx.log.warning("logged 7")
    ctx.progress(0.25, "a quarter", { loss = 0.5 })
    io.stderr:write("native\n")
  end,
  raise = function() error("no such luck") end,
  retry = function(ctx)
    if ctx.state:increment("attempts", 1) < 2 then
      dunnage.retry("not yet", 0.01)
    end
    return "at last"
  end,
  wait = wait,
  stubborn = stubborn,
  spawn = function(ctx)
    os.execute("sleep 60 &")
    stubborn(ctx)
  end,
  -- Fails if another job of the same key runs; notes the order.
  in_turn = function(ctx)
    if ctx.state:increment("inside", 1) ~= 1 then
      error("not alone")
    end
    local order = ctx.state:get("order", dunnage.empty_array())
    table.insert(order, ctx.params.number)
    ffi.C.sleep(0)
    ctx.state:set("order", order)
    ctx.state:increment("inside", -1)
    return order
  end,
  count = function(ctx) return ctx.state:increment("count", 1) end,
  segfault = write_nowhere,
  unfit = function() return print end,
}

local function run(files, ctx)
  if ctx.params.case then
    return jobs[ctx.params.case](ctx)
  end
  local contents = dunnage.empty_array()
  for index, file in ipairs(files) do
    contents[index] = file:read()
  end
  return { contents = contents, params = ctx.params }
end

return {
  train = run,
  input = run,
  output = function(files, ctx) return outputs[ctx.params.case or "sizes"](files, ctx) end,
}
