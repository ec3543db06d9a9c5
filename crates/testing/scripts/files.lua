-- Says what its files hold and where they lie.
local model = {}

function model.input(files, ctx)
  local contents, paths = {}, {}
  for index, file in ipairs(files) do
    contents[index], paths[index] = file:read(), file.path
  end
  return { contents = contents, paths = paths }
end

function model.output(files, ctx)
  local sizes = {}
  for index, file in ipairs(files) do
    sizes[index] = file.size
  end
  return sizes
end

return model
