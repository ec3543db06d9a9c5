local model = {}

function model.train(files, ctx)
  return { files = #files, x = ctx.params.x }
end

function model.input(_, ctx)
  if ctx.params.fail then
    error("no input today")
  end
end

return model
