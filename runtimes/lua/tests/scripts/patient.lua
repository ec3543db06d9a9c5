local model = {}

function model.train(_, ctx)
  ctx:progress(nil, "waiting")
  while not ctx.cancelled do
  end
  return "cancelled"
end

return model
