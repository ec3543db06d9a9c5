-- What a soak asks of a script: mostly its nonce back, and now and then the worst.

local ffi = require("ffi")
ffi.cdef("unsigned sleep(unsigned);")

local cases = {
  echo = function() end,
  flood = function()
    local line = string.rep("x", 1000) .. "\n"
    for _ = 1, 2000 do
      io.stdout:write(line)
    end
    io.stdout:flush()
  end,
  leave = function() os.exit(3) end,
  segfault = function() ffi.cast("int *", 0)[0] = 1 end,
  hang = function() ffi.C.sleep(60) end,
  raise = function() error("no such luck") end,
}

local function work(_, ctx)
  ctx.progress(0.5, "half")
  print("working on " .. ctx.params.nonce)
  cases[ctx.params.case or "echo"]()
  ctx.state.last = ctx.params.nonce
  return ctx.params.nonce
end

local function output(_, ctx)
  cases[ctx.params.case or "echo"]()
  local vector = {}
  for place = 1, 1000 do
    vector[place] = ctx.params.nonce
  end
  return vector
end

return { train = work, input = work, output = output }
