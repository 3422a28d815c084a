-- ARGV 6: how many of the last turns, 7 and 8: idempotency key and body, 9: token, 10: how long the lease lasts, 11: how long a place in
-- front of it does (0: does not wait), 12 to 15: the state whoever asks remembers: incarnation ('': none), version, activity, turns.
-- Answers with 0 started, 1 not found, 2 replayed, 3 key reused, 4 busy. Behind 0 comes nothing where there is no session, whether it is pending
-- where it is as remembered, else its fields and its last turns: those from the last one that is remembered on, if that is enough.
local s = redis.call('HMGET', session, 'a', 'u', 'i', 'v', 'n', 'p')
local is_live = live(s[1])
if is_live then
  if not may_have(s[2]) then return {1} end
  if ARGV[7] ~= '' then
    local answer = redis.call('HGET', answered, ARGV[7])
    if answer then
      if string.sub(answer, 1, 16) ~= ARGV[8] then return {3} end
      local number = tonumber(string.sub(answer, 17))
      return {2, redis.call('HGETALL', session), redis.call('LINDEX', turns, -1), redis.call('LINDEX', turns, number - 1), number}
    end
  end
end

local token, place = ARGV[9], tonumber(ARGV[11])
local holder, next_one = held()
if holder and holder ~= token or next_one and next_one ~= token then
  -- Whoever waits longest is next: else a busy replica would never let go.
  if place > 0 and (not next_one or next_one == token) then redis.call('SET', waiter, token, 'PX', place) end
  return {4}
end
redis.call('SET', lease, token, 'PX', ARGV[10])
if next_one then redis.call('DEL', waiter) end
if not is_live then return {0} end
local remembers = s[3] == ARGV[12]
if remembers and s[4] == ARGV[13] and s[1] == ARGV[14] then return {0, s[6] and 1 or 0} end

-- The last turn in any case: it is a part of the session.
local count, wanted = tonumber(s[5]), math.max(tonumber(ARGV[6]), 1)
local first = math.max(count - wanted, 0)
local last_known = remembers and tonumber(ARGV[15]) - 1 or -1
if last_known > first and last_known < count then first = last_known end
return {0, redis.call('HGETALL', session), redis.call('LRANGE', turns, first, -1)}
