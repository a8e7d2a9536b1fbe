-- wrk script: sends requests in turn, checks every answer, prints one line of results.
--   wrk ... -s _check.lua URL -- MANIFEST
-- A line of the manifest is a request: STATUS METHOD PATH WEIGHT ANSWER-FILE BODY-FILE, or - for no body. It is sent
-- WEIGHT times in each turn. An answer is right if its body is, byte by byte, the content of an answer file, and its
-- status the one of that line. Strings are interned in Lua, so looking for it costs next to nothing. Headers are not
-- compared here: they carry request ids.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

local function content(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- Requests of one kind as far apart in a turn as their number allows.
local function turn(kinds)
  local total, credits, order = 0, {}, {}
  for number, kind in ipairs(kinds) do
    total = total + kind.weight
    credits[number] = 0
  end
  for _ = 1, total do
    local best = 1
    for number, kind in ipairs(kinds) do
      credits[number] = credits[number] + kind.weight
      if credits[number] > credits[best] then
        best = number
      end
    end
    credits[best] = credits[best] - total
    order[#order + 1] = wrk.format(kinds[best].method, kinds[best].path, nil, kinds[best].body)
  end
  return order
end

function init(args)
  expected = {}
  right = 0
  wrong = 0
  sample = ""
  local kinds = {}
  for line in io.lines(args[1]) do
    local status, method, path, weight, answer, body = line:match("^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$")
    expected[content(answer)] = tonumber(status)
    kinds[#kinds + 1] = { method = method, path = path, weight = tonumber(weight) }
    if body ~= "-" then
      kinds[#kinds].body = content(body)
    end
  end
  -- Without a function request, wrk need not ask for each.
  wrk.method, wrk.path, wrk.body = kinds[1].method, kinds[1].path, kinds[1].body
  if #kinds > 1 then
    local order, at = turn(kinds), 0
    function request()
      at = at % #order + 1
      return order[at]
    end
  end
end

function response(status, _headers, body)
  if expected[body] == status then
    right = right + 1
  else
    wrong = wrong + 1
    if sample == "" then
      sample = status .. " " .. string.sub(body, 1, 300)
    end
  end
end

-- Microseconds; requests are those that were answered in time.
local PERCENTILES = { 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9 }

function done(summary, latency, _requests)
  local good, bad, first = 0, 0, ""
  for _, thread in ipairs(threads) do
    good = good + thread:get("right")
    bad = bad + thread:get("wrong")
    if first == "" then
      first = thread:get("sample")
    end
  end
  local errors = summary.errors
  io.write(string.format("\nRESULT right=%d wrong=%d requests=%d microseconds=%d", good, bad, summary.requests,
    summary.duration))
  io.write(string.format(" connect=%d read=%d write=%d timeout=%d mean=%.1f max=%d", errors.connect, errors.read,
    errors.write, errors.timeout, latency.mean, latency.max))
  for _, percent in ipairs(PERCENTILES) do
    io.write(string.format(" p%g=%d", percent, latency:percentile(percent)))
  end
  io.write("\nSAMPLE " .. first .. "\n")
end
