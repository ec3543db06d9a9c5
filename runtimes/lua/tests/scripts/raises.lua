local model = {}

local function check(params)
  if params.fail then
    error("boom")
  end
end

function model.output(_, ctx)
  check(ctx.params)
  return { 1 }
end

return model
