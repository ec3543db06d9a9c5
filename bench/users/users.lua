-- Has wrk send one request for each user, in an order without pattern, check every answer, and stop when all have been answered.
-- Arguments: what is asked (`input` or `output`), how many users, and the address of a file.
-- Every answer to `output` names its user, so that an answer to somebody else's question would be noticed.

local step = 61843 -- prime, so that its multiples meet every user once

function init(arguments)
  kind, count, address = arguments[1], tonumber(arguments[2]), arguments[3]
  expected = kind == "input" and 202 or 200
  sent, answered, wrong = 0, 0, 0
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  local user = sent * step % count
  sent = sent + 1
  local body = ('{"Files":["%s"],"Params":{"user":%d}}'):format(address, user)
  return wrk.format("POST", "/" .. kind, nil, body)
end

function response(status, headers, body)
  answered = answered + 1
  local right = status == expected
  if right and kind == "output" then
    local user, twice = body:match("^{\"outputVector\":%[([%d.]+),([%d.]+)%]}")
    right = user and tonumber(twice) == tonumber(user) * 2 + 1
  end
  if not right then
    wrong = wrong + 1
    if wrong <= 3 then
      print("wrong: " .. status .. " " .. body)
    end
  end
  if answered >= count then
    io.write(('{"answered":%d,"wrong":%d}\n'):format(answered, wrong))
    io.flush()
    os.exit(0) -- wrk itself would only stop when its time is over
  end
end
