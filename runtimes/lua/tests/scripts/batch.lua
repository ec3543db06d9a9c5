local model = {}

function model.output_batch(requests)
  local answers = {}
  for i, request in ipairs(requests) do
    if request.params.fail then
      error("boom")
    end
    answers[i] = { request.params.x, #requests }
  end
  return answers
end

return model
