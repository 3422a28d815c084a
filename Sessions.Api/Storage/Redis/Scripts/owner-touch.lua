-- KEYS: an owner's index of a kind by activity, the bytes of these ('=': their sum), those that have to go, entries of sessions that are
-- about to be made. ARGV: the entry, activity, its bytes ('': they are not counted), the entry that was made beforehand ('': none), how
-- long the keys live, whether only an entry that is there is moved, whether the index is kept, how many there may be where one comes (0:
-- any number). Where that is too many, the least recently active others leave the index in the same step. Answers with whether it is
-- there, their bytes, how many have to go.
local is_kept = ARGV[7] == '1'
if ARGV[6] == '1' and is_kept and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0, 0, 0} end
-- One that was chosen to go has been used since.
local doomed = redis.call('ZSCORE', KEYS[3], ARGV[1])
if doomed and tonumber(doomed) < tonumber(ARGV[2]) then redis.call('ZREM', KEYS[3], ARGV[1]) doomed = false end
local added = 0
if is_kept and not doomed then added = redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1]) end
local total = 0
if ARGV[3] ~= '' and not doomed then
  local before = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
  total = redis.call('HINCRBY', KEYS[2], '=', string.format('%.0f', tonumber(ARGV[3]) - before))
end
if ARGV[4] ~= '' then redis.call('ZREM', KEYS[4], ARGV[4]) end
local most, surplus = tonumber(ARGV[8]), 0
if added == 1 and most > 0 then surplus = redis.call('ZCARD', KEYS[1]) - most end
if surplus > 0 then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, surplus, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if surplus > 0 and oldest[i] ~= ARGV[1] then
      redis.call('ZREM', KEYS[1], oldest[i])
      redis.call('ZADD', KEYS[3], oldest[i + 1], oldest[i])
      surplus = surplus - 1
    end
  end
end
for i = 1, 3 do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
end
return {1, total, redis.call('ZCARD', KEYS[3])}
