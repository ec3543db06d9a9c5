local ML = { seen = {} }

function ML.handleTrainFile(name, contents)
  ML.seen[name] = contents
end

function ML.handleInputFile(name, contents)
  assert(ML.seen[name] == contents)
end

function ML.handleOutputFile(name, contents)
  assert(ML.seen[name] == contents)
  return #contents
end

return ML
