-- The constant vector in Lua.
local vector = {}
for index = 1, 128 do
  vector[index] = (index - 1) * 0.1234567
end

return {
  output = function()
    return vector
  end,
}
