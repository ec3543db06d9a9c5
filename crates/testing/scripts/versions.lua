-- Answers what it was trained with, many times over; cannot be loaded with what is `broken`, nor serve with less than 0.

local model = {}
local value = "0"

function model.setup(ctx)
  if ctx.artifact then
    value = assert(io.open(ctx.artifact .. "/value")):read("*a")
  end
  if value == "broken" then
    error("these weights are broken")
  end
end

function model.self_test()
  local score = model.output()[1]
  if score < 0 then
    error("a walk scored " .. score)
  end
end

function model.train(_, ctx)
  local file = assert(io.open(ctx.new_artifact() .. "/value", "w"))
  file:write(tostring(ctx.params.value))
  file:close()
  return { value = ctx.params.value }
end

function model.output()
  local values = {}
  for index = 1, 500 do
    values[index] = tonumber(value)
  end
  return values
end

return model
