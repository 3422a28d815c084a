-- What all scripts on one session share; it goes before each of them. KEYS: the head, the turns, where runs of turns begin, the requests
-- that were answered, the leases, who waits for one, what was said to their holders. ARGV: now in microseconds, the owner's user ('':
-- none), what the owner may have beside that user's sessions (0: nothing, 1: those of nobody, 2: all), how long idle sessions of the three
-- kinds live in microseconds, how much longer than needed keys live in milliseconds, the caller's lease ('': none).
local head, turns, branches, answered, lease, waiter, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local now, owner, more, slack, token = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[7]), ARGV[8]
local TOLD_MS = 3600000

-- What numbers can be: times are those that there are in microseconds, and what is added to is still a number then.
local MIN_TIME, MAX_TIME = -62135596800000000, 253402300799999999
local MAX_COUNT, MAX_NUMBER = 2147483646, 9007199254740991

-- How long a lease may last that somebody has, at the most: all are shorter by far.
local MAX_LEASE_MS = 86400000

-- What a script has beside what all have.
local function arg(number)
  return ARGV[number + 8]
end

-- Lua's own way to write numbers rounds those of microseconds.
local function text(number)
  return string.format('%.0f', number)
end

local function lifetime(kind)
  return tonumber(ARGV[4 + tonumber(kind)])
end

local function may_have(user)
  if more == '2' then return true end
  if not user then return more == '1' end
  return user == owner
end

-- A whole number as it is stored, or nothing: what is no number, or none that a session can have.
local function whole(value, least, most)
  local number = value and string.match(value, '^%-?%d+$') and tonumber(value)
  if number and number >= least and number <= most then return number end
  return nil
end

-- What is stored, whether or not it has expired. Something that is no session is an error: it must not be taken for nothing, and written
-- over. So is one that counts other turns than there are.
local function stored()
  local f = redis.call('HMGET', head, 'x', 'u', 'i', 'v', 'g', 'n', 'w', 'k', 'a', 'r', 'b')
  if not f[1] and redis.call('EXISTS', head) == 0 then return nil end
  local s = {
    x = whole(f[1], MIN_TIME, MAX_TIME), user = f[2], key = f[3], version = f[4], tag = f[5], count = whole(f[6], 0, MAX_COUNT),
    rewrites = f[7], kind = f[8],
    activity = whole(f[9], MIN_TIME, MAX_TIME), reservation = f[10], bytes = whole(f[11], 0, MAX_NUMBER),
  }
  if not (s.x and s.key and #s.key == 16 and whole(s.version, 0, MAX_NUMBER) and s.tag and s.count and whole(s.rewrites, 0, MAX_COUNT)
    and whole(s.kind, 0, 255) and lifetime(s.kind) and s.activity and s.bytes and redis.call('LLEN', turns) == s.count) then
    error('DAMAGED')
  end
  return s
end

-- The session, if it has not expired, and what lies in its place otherwise.
local function open()
  local s = stored()
  if s and s.x > now then return s, nil end
  return nil, s
end

-- What others need to know to forget a session: user, key, kind, reservation, turns, whether it was live.
local function remains(s)
  if not s then return false end
  return {s.user or '', s.key, s.kind, s.reservation or '', s.count, s.x > now and 1 or 0}
end

local function fields()
  return redis.call('HGETALL', head)
end

-- Keys live longer than the session by the slack, and by up to a quarter so that they need not be kept each time. Tells whether they were
-- kept.
local function keep(x, always)
  local need = (x - now) / 1000 + slack
  if not always and redis.call('PTTL', head) >= need then return 0 end
  local ttl = text(need + (x - now) / 4000)
  for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], ttl) end
  return 1
end

-- Leases run out by the server's clock: members are a token of 22 characters and whose it is, scores when they run out. With a mark before
-- it, a member keeps nobody away: a turn of another session needs this one.
local USES = '~'
local mine = token .. owner

local function is_use(member)
  return string.sub(member, 1, 1) == USES
end

-- How a caller stands among the leases of a session that is there, or is not.
local function member_of(s, is_exclusive)
  if is_exclusive or not s or s.kind == '2' then return mine end
  return USES .. mine
end

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Whether the caller has its lease still, whether somebody else has one, and whether turns of others need the session.
local function held()
  local all = redis.call('ZRANGE', lease, 0, -1, 'WITHSCORES')
  if #all == 0 then return false, false, false end
  local at, own, other, used = clock(), false, false, false
  for i = 1, #all, 2 do
    local left = tonumber(all[i + 1]) - at
    if left > 0 then
      -- Nobody would ever let go of that.
      if #all[i] < 22 or left > MAX_LEASE_MS then error('DAMAGED') end
      if all[i] == mine or all[i] == USES .. mine then own = true
      elseif is_use(all[i]) then used = true
      else other = true end
    end
  end
  return own, other, used
end

-- Who is next. What does not go by itself is none of ours: everybody would wait for it for ever.
local function next_in_line()
  local next_one = redis.call('GET', waiter)
  if next_one and next_one ~= token and (#next_one ~= 22 or redis.call('PTTL', waiter) < 0) then error('DAMAGED') end
  return next_one
end

local function take(milliseconds, member)
  local at = clock()
  redis.call('ZREMRANGEBYSCORE', lease, '-inf', at)
  redis.call('ZADD', lease, at + tonumber(milliseconds), member or mine)
  if redis.call('PTTL', lease) < tonumber(milliseconds) then redis.call('PEXPIRE', lease, milliseconds) end
end

local function let_go()
  if token == '' then return end
  redis.call('ZREM', lease, mine, USES .. mine)
  if redis.call('GET', waiter) == token then redis.call('DEL', waiter) end
end

local function is_told()
  return redis.call('HGET', told, token)
end

local function is_revoked()
  return token ~= '' and is_told() == 'r'
end

-- Says something to whoever has a lease: c to stop, r that it is taken away.
local function tell(whom, what)
  redis.call('HSET', told, whom, what)
  redis.call('PEXPIRE', told, TOLD_MS)
end

-- Takes leases away for good: the one that is named, whether or not it is held by now, or all of those whose owners may be meddled with.
local function revoke(named)
  if named then tell(named, 'r') end
  for _, holder in ipairs(redis.call('ZRANGE', lease, 0, -1)) do
    local whose, user = string.match(holder, '^' .. USES .. '?(......................)(.*)$')
    if whose == named or not named and may_have(user ~= '' and user or false) then
      tell(whose, 'r')
      redis.call('ZREM', lease, holder)
    end
  end
end

-- Makes a head in place of an expired one, if there is one.
local function create(user, key, kind, origin, reservation, metadata)
  redis.call('DEL', head, turns, branches, answered)
  local x = now + lifetime(kind)
  redis.call('HSET', head, 'i', key, 'k', kind, 'o', origin, 'c', ARGV[1], 'a', ARGV[1], 'x', text(x),
    'v', 0, 'g', 0, 'n', 0, 'w', 0, 'e', 0, 'b', #metadata)
  if user ~= '' then redis.call('HSET', head, 'u', user) end
  if reservation ~= '' then redis.call('HSET', head, 'r', reservation) end
  if metadata ~= '' then redis.call('HSET', head, 'm', metadata) end
  return {x = x, user = user ~= '' and user or false, key = key, version = '0', tag = '0',
    count = 0, rewrites = '0', kind = kind, activity = now, reservation = reservation, bytes = #metadata}
end

-- Another state of a session, after activity. A clock that was set back does not take activity back.
local function touch(s, tag)
  if s.activity < now then s.activity = now end
  s.x = s.activity + lifetime(s.kind)
  redis.call('HSET', head, 'a', text(s.activity), 'x', text(s.x), 'v', text(tonumber(s.version) + 1), 'g', tag)
end
