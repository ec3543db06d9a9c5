local cases = { nested = { { 1, 2 } }, text = "text", mixed = { 1, "a" } }

return {
  output = function(_, ctx)
    return cases[ctx.params.case]
  end,
}
