local model = {}

function model.train(_, ctx)
  print("a printed line")
  ctx.progress(0.5, "half", { loss = 0.25 })
  ctx.log.warning("a warning")
end

return model
