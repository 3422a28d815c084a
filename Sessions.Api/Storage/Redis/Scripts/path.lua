-- Reads turns along a path. Runs of turns that continue the turn before them are found by where they begin: 'first:parent', scored by the
-- first. Without branches there is one, which is not written down. A step is bounded: it holds up everybody else.

local function run_of(turn)
  local run = redis.call('ZREVRANGEBYSCORE', branches, turn, '-inf', 'LIMIT', 0, 1)
  if #run == 0 then return 1, 0 end
  local first, parent = string.match(run[1], '^(%d+):(%d+)$')
  first, parent = tonumber(first), tonumber(parent)
  -- A path leads to turns before its own: else it would never end.
  if not first or first < 1 or first > turn or parent >= first then error('DAMAGED') end
  return first, parent
end

-- Takes turns of one run, in either direction, until there are enough of them or of their bytes; one in any case. Answers with the one
-- that would be next, if it stopped early.
local function take_run(page, from, to, step)
  while (to - from) * step >= 0 do
    if page.count == page.limit then return from end
    -- As many at once as are likely to fit.
    local left = math.max(page.room - page.bytes, 0)
    local batch = math.min(page.limit - page.count, math.max(1, math.floor(left / page.average)), (to - from) * step + 1, 256)
    local last = from + (batch - 1) * step
    local values = redis.call('LRANGE', turns, math.min(from, last) - 1, math.max(from, last) - 1)
    if #values < batch then error('DAMAGED') end
    for i = 1, batch do
      local value = values[step > 0 and i or batch + 1 - i]
      if page.count > 0 and page.bytes + #value > page.room then return from end
      page.count = page.count + 1
      page.bytes = page.bytes + #value
      page.numbers[page.count] = from
      page.values[page.count] = value
      from = from + step
      if from == page.stop + step then return from end
    end
  end
  return nil
end

local function new_page(s, limit, room, stop)
  return {count = 0, bytes = 0, limit = limit, room = room, stop = stop, numbers = {}, values = {},
    average = math.max(1, s.bytes / math.max(1, s.count)) + 64}
end

-- Newest first, from a turn on or below another one. Answers with the turn that would be next; 0: there is none.
local function read_back(page, turn, below)
  while turn > 0 do
    local first, parent = run_of(turn)
    local from = math.min(turn, below - 1)
    if from >= first then
      local next_one = take_run(page, from, first, -1)
      if next_one then return next_one >= first and next_one or parent end
    end
    turn = parent
  end
  return 0
end

-- Oldest first, above a turn. Answers with whether there are more.
local function read_on(page, tip, above)
  local runs, turn = {}, tip
  while turn > above do
    local first, parent = run_of(turn)
    runs[#runs + 1] = {math.max(first, above + 1), turn}
    turn = parent
  end
  for i = #runs, 1, -1 do
    if take_run(page, runs[i][1], runs[i][2], 1) then return true end
  end
  return false
end
