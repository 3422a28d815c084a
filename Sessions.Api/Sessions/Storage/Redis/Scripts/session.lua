-- What all scripts on one session share; it goes before each of them.
-- KEYS: the session, its turns, the requests it has answered, its lease, who waits for the lease.
-- ARGV: now and the timeout in microseconds, how long keys live in milliseconds, the owner's user ('': none), what the owner may have beside that
-- user's sessions (0: nothing, 1: those of nobody, 2: all).
local session, turns, answered, lease, waiter = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, timeout, ttl, owner, more = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

local function live(activity)
  return activity and tonumber(activity) + timeout > now
end

local function may_have(user)
  if more == '2' then return true end
  if not user then return more == '1' end
  return user == owner
end

-- Whether there is a session for this owner.
local function found()
  local s = redis.call('HMGET', session, 'a', 'u')
  return live(s[1]) and may_have(s[2])
end

-- What others need to know to forget a session: user, activity, reservation, turns, whether it was live.
local function remains()
  local s = redis.call('HMGET', session, 'u', 'a', 'r', 'n')
  if not s[2] then return false end
  return {s[1] or '', s[2], s[3] or '', s[4], live(s[2]) and 1 or 0}
end

local function keep()
  redis.call('PEXPIRE', session, ttl)
  redis.call('PEXPIRE', turns, ttl)
  redis.call('PEXPIRE', answered, ttl)
end

-- Whether the keys have lived through a quarter of the timeout since they were last kept: they live longer than they need to by that.
local function is_due()
  return redis.call('PTTL', session) < tonumber(ttl) - timeout / 4000
end

-- Who holds the lease, and who waits for it.
local function held()
  local both = redis.call('MGET', lease, waiter)
  return both[1], both[2]
end

local function let_go(token, holder, next_one)
  if holder == token then redis.call('DEL', lease) end
  if next_one == token then redis.call('DEL', waiter) end
end

-- Makes a session in place of an expired one, if there is one. Pending ('p') until it is in the indexes of other slots.
local function create(origin, incarnation, reservation)
  local replaced = remains()
  redis.call('DEL', session, turns, answered)
  redis.call('HSET', session, 'c', ARGV[1], 'a', ARGV[1], 'v', 0, 'n', 0, 'o', origin, 'i', incarnation, 'p', 1)
  if owner ~= '' then redis.call('HSET', session, 'u', owner) end
  if reservation ~= '' then redis.call('HSET', session, 'r', reservation) end
  return replaced
end

-- The end of a failed turn. A clock that was set back does not take activity back.
local function touch()
  if tonumber(redis.call('HGET', session, 'a')) < now then redis.call('HSET', session, 'a', ARGV[1]) end
  redis.call('HINCRBY', session, 'v', 1)
  keep()
  local s = redis.call('HMGET', session, 'u', 'r', 'p', 'a')
  return s[1] or '', s[2] or '', s[3] and 1 or 0, s[4]
end
