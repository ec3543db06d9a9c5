-- The form of the first wrappers: one call a file, and everything in memory.

local ML = { total = 0 }

function ML.handleTrainFile(_, contents)
  ML.total = ML.total + #contents
end

function ML.handleInputFile(_, contents)
  ML.total = ML.total + #contents
end

function ML.handleOutputFile(_, contents)
  return { ML.total, #contents }
end

return ML
