-- Leaves traces by which it can be told which attempt at a job did what.

local ffi = require("ffi")
ffi.cdef("int getpid(void); int usleep(unsigned microseconds);")

-- No two processes of one run have the same number at the same time, and those of a run are few.
local number = 0

local function next_tag()
  number = number + 1
  return ("%d-%d"):format(ffi.C.getpid(), number)
end

local service = {}

function service.input(_, ctx)
  local tag = next_tag()
  ctx.state["begin/" .. ctx.job_id] = tag
  ffi.C.usleep(ctx.params.seconds * 1000000)
  ctx.state["end/" .. ctx.job_id] = tag
  return tag
end

function service.output(_, ctx)
  return { ctx.params.nonce }
end

return service
