--- Tells from the rhythm of typing one password whether it was its owner who typed it.
--
-- The same detector, files, state and artifact as model.py, which tells more; the scores agree to the last bits.

local TIMINGS = 31

-- The timings are whole milliseconds, so a deviation below one cannot be told from none.
local SMALLEST_DEVIATION = 1.0

-- With no calibrated threshold nobody is accepted: a lock without a key stays shut.
local ACCEPT_NOBODY = -math.huge

local model = {}
local threshold = ACCEPT_NOBODY

local read_threshold, write_threshold, make_template, distance, equal_error, read_timings, user_of, template_of, state_key

function model.setup(ctx)
  threshold = read_threshold(ctx.artifact)
end

--- Enrols `Params.user` from all `files`, in place of any earlier enrolment.
function model.input(files, ctx)
  local user = user_of(ctx.params)
  local repetitions = {}
  for i, file in ipairs(files) do
    repetitions[i] = read_timings(file)
  end
  ctx.state[state_key(user)] = make_template(repetitions)
  ctx.log.info(("enrolled %s from %d repetitions"):format(user, #files))
  return { user = user, repetitions = #files }
end

--- Chooses the accept threshold from files with `Params.labels`, a list of `{"user": "…", "genuine": true}`.
function model.train(files, ctx)
  local labels = ctx.params.labels
  if type(labels) ~= "table" or #labels ~= #files then
    error(("`Params.labels` must be a list with one label for each of the %d files"):format(#files), 0)
  end
  local templates, genuine, impostor = {}, {}, {}
  for i, file in ipairs(files) do
    local user, is_genuine = user_of(labels[i]), labels[i].genuine
    if type(is_genuine) ~= "boolean" then
      error(("label %d: `genuine` must be true or false"):format(i), 0)
    end
    templates[user] = templates[user] or template_of(user, ctx)
    table.insert(is_genuine and genuine or impostor, distance(templates[user], read_timings(file)))
    if i % 100 == 0 or i == #files then
      ctx.progress(i / #files, ("scored %d of %d"):format(i, #files), { genuine = #genuine, impostor = #impostor })
    end
  end
  local eer, chosen = equal_error(genuine, impostor)
  write_threshold(ctx.new_artifact(), chosen)
  return { eer = eer, threshold = chosen, genuine = #genuine, impostor = #impostor }
end

--- Answers `[score, accept]` for one repetition said to be typed by `Params.user`; accept is 1 or 0.
function model.output(files, ctx)
  if #files ~= 1 then
    error(("one repetition is judged at a time, found %d files"):format(#files), 0)
  end
  local score = distance(template_of(user_of(ctx.params), ctx), read_timings(files[1]))
  return { score, score <= threshold and 1 or 0 }
end

local function average(count, value)
  local total = 0
  for i = 1, count do
    total = total + value(i)
  end
  return total / count
end

function make_template(repetitions)
  local count = #repetitions
  if count < 2 then
    error(("enrolment needs at least 2 repetitions, found %d"):format(count), 0)
  end
  local mean, deviation = {}, {}
  for t = 1, TIMINGS do
    local m = average(count, function(i) return repetitions[i][t] end)
    local d = average(count, function(i) return math.abs(repetitions[i][t] - m) end)
    mean[t], deviation[t] = m, math.max(d, SMALLEST_DEVIATION)
  end
  return { mean = mean, deviation = deviation }
end

function distance(template, timings)
  local mean, deviation = template.mean, template.deviation
  local total = 0
  for t = 1, TIMINGS do
    total = total + math.abs(timings[t] - mean[t]) / deviation[t]
  end
  return total
end

--- Returns the equal-error rate and its threshold, both interpolated where the two error rates cross.
function equal_error(genuine, impostor)
  if #genuine == 0 or #impostor == 0 then
    local found = ("found %d genuine and %d impostor"):format(#genuine, #impostor)
    error("both kinds of repetition are needed, " .. found, 0)
  end
  local scores = {}
  for _, score in ipairs(genuine) do table.insert(scores, score) end
  for _, score in ipairs(impostor) do table.insert(scores, score) end
  table.sort(genuine)
  table.sort(impostor)
  table.sort(scores)

  local accepted, let_in = 0, 0
  local miss, false_alarm, score = 1, 0, 0
  local last_miss, last_false_alarm, last_score
  for _, next_score in ipairs(scores) do
    last_miss, last_false_alarm, last_score = miss, false_alarm, score
    score = next_score
    while accepted < #genuine and genuine[accepted + 1] <= score do accepted = accepted + 1 end
    while let_in < #impostor and impostor[let_in + 1] <= score do let_in = let_in + 1 end
    miss, false_alarm = 1 - accepted / #genuine, let_in / #impostor
    if false_alarm >= miss then break end
  end
  local before, after = last_miss - last_false_alarm, false_alarm - miss
  local share = before / (before + after)
  return last_miss + share * (miss - last_miss), last_score + share * (score - last_score)
end

function read_timings(file)
  local line = file:read():match("^%s*(.-)%s*$")
  local timings = {}
  for field in (line .. ","):gmatch("([^,]*),") do
    table.insert(timings, field)
  end
  if #timings ~= TIMINGS then
    error(("%s: expected %d timings separated by commas, found %d"):format(file.uri, TIMINGS, #timings), 0)
  end
  for t, field in ipairs(timings) do
    local value = tonumber(field)
    if not value or value ~= value or math.abs(value) == math.huge then
      error(("%s: `%s` is not a number of milliseconds"):format(file.uri, field), 0)
    end
    timings[t] = value
  end
  return timings
end

function user_of(params)
  local user = type(params) == "table" and params.user
  if type(user) ~= "string" or user == "" then
    error('`user` must name a user, for example `Params: {"user": "s002"}`', 0)
  end
  return user
end

function template_of(user, ctx)
  local template = ctx.state[state_key(user)]
  if not template then
    error(("user `%s` is not enrolled; send their repetitions to /input first"):format(user), 0)
  end
  return template
end

function state_key(user)
  return "template/" .. user
end

function read_threshold(artifact)
  if not artifact then
    return ACCEPT_NOBODY
  end
  local file = assert(io.open(artifact .. "/threshold.json"))
  local text = file:read("*a")
  file:close()
  local number = assert(text:match('"threshold"%s*:%s*([^%s,}]+)'), "threshold.json names no threshold")
  return assert(tonumber(number), "the threshold in threshold.json is not a number")
end

function write_threshold(artifact, value)
  local file = assert(io.open(artifact .. "/threshold.json", "w"))
  assert(file:write(('{"threshold": %.17g}\n'):format(value)))
  assert(file:close())
end

return model
