local dunnage = require("dunnage")
local model = {}

function model.train(_, ctx)
  local state, seen = ctx.state, {}
  state.text = "ä"
  seen.text = state.text
  state.bytes = "\0\255"
  seen.length = #state.bytes
  state:increment("n", 2)
  seen.sum = state:increment("n", 0.5)
  seen.swapped = state:compare_and_set("text", "ä", "b")
  seen.swapped_again = state:compare_and_set("text", "ä", "c")
  assert(state:delete("bytes"))
  seen.gone = state.bytes == nil
  seen.keys = dunnage.empty_array()
  for key in state:scan("t") do
    table.insert(seen.keys, key)
  end
  return seen
end

return model
