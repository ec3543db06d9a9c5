--- Tells how unusual a measurement is: for everybody, or for one person once their own have been seen.
--
-- A file is a CSV without a heading: a measurement a line, numbers only, each line with as many as the others.

local model = {}
local columns

local read_rows, means, deviations, write_columns, read_columns

--- Runs once in each worker. `ctx.artifact` is the folder of the training that serves, or nil before the first.
function model.setup(ctx)
  columns = ctx.artifact and read_columns(ctx.artifact)
end

--- Learns how each column varies. What is written to `ctx.new_artifact()` becomes a new version and serves at once.
function model.train(files, ctx)
  local rows = {}
  for i, file in ipairs(files) do
    read_rows(file, rows)
    ctx.progress(i / #files, ("read %d of %d files"):format(i, #files), { rows = #rows })
  end
  if #rows < 2 then
    error(("at least 2 measurements are needed to see how they vary, found %d"):format(#rows), 0)
  end
  local mean = means(rows)
  write_columns(ctx.new_artifact(), mean, deviations(rows, mean))
  return { rows = #rows, columns = #mean }
end

--- Remembers what is usual for `Params.name`. The state is kept in the database and shared by all workers.
function model.input(files, ctx)
  local name = ctx.params.name
  if not name then
    error("`Params.name` says whose measurements these are", 0)
  end
  local rows = {}
  for _, file in ipairs(files) do
    read_rows(file, rows)
  end
  ctx.state["usual/" .. name] = means(rows)
  ctx.log.info(("learned what is usual for %s from %d measurements"):format(name, #rows))
  return { name = name, rows = #rows }
end

--- Answers, for each column, how many deviations the files are away from what is usual.
function model.output(files, ctx)
  if not columns then
    error("nothing is learned yet; send measurements to /train first", 0)
  end
  local rows = {}
  for _, file in ipairs(files) do
    read_rows(file, rows)
  end
  local usual = ctx.params.name and ctx.state["usual/" .. ctx.params.name] or columns.mean
  local vector = means(rows)
  if #vector ~= #columns.mean then
    error(("expected %d columns as in training, found %d"):format(#columns.mean, #vector), 0)
  end
  for c, value in ipairs(vector) do
    vector[c] = (value - usual[c]) / columns.deviation[c]
  end
  return vector
end

--- Appends the measurements of a file to `rows`.
function read_rows(file, rows)
  for line in file:read():gmatch("[^\r\n]+") do
    local row = {}
    for cell in line:gmatch("[^,]+") do
      local number = tonumber(cell)
      if not number then
        error(("%s: `%s` is not a number"):format(file.uri, cell), 0)
      end
      table.insert(row, number)
    end
    table.insert(rows, row)
  end
end

function means(rows)
  if #rows == 0 then
    error("at least one measurement is needed", 0)
  end
  local mean = {}
  for c = 1, #rows[1] do
    local total = 0
    for _, row in ipairs(rows) do
      total = total + row[c]
    end
    mean[c] = total / #rows
  end
  return mean
end

function deviations(rows, mean)
  local deviation = {}
  for c in ipairs(mean) do
    local total = 0
    for _, row in ipairs(rows) do
      total = total + (row[c] - mean[c]) ^ 2
    end
    deviation[c] = math.sqrt(total / (#rows - 1))
    if deviation[c] == 0 then
      deviation[c] = 1
    end
  end
  return deviation
end

function write_columns(folder, mean, deviation)
  local file = assert(io.open(folder .. "/columns.txt", "w"))
  for c in ipairs(mean) do
    assert(file:write(("%.17g %.17g\n"):format(mean[c], deviation[c])))
  end
  assert(file:close())
end

function read_columns(folder)
  local found = { mean = {}, deviation = {} }
  for line in io.lines(folder .. "/columns.txt") do
    local mean, deviation = line:match("(%S+) (%S+)")
    table.insert(found.mean, tonumber(mean))
    table.insert(found.deviation, tonumber(deviation))
  end
  return found
end

return model
