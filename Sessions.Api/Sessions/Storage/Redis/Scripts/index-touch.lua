-- KEYS: an index, those that have to go from it. ARGV: activity, id, how long the index lives, before which activity entries are long dead,
-- how many sessions there may be (0: any number). Where one came and that is too many, the least recently active others leave the index in the
-- same step. Answers with those that are still to be removed, each with its activity.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[4])
local added = redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if not KEYS[2] then return {} end
redis.call('ZREM', KEYS[2], ARGV[2])
local most, surplus = tonumber(ARGV[5]), 0
if added == 1 and most > 0 then surplus = redis.call('ZCARD', KEYS[1]) - most end
if surplus > 0 then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, surplus, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if surplus > 0 and oldest[i] ~= ARGV[2] then
      redis.call('ZREM', KEYS[1], oldest[i])
      redis.call('ZADD', KEYS[2], oldest[i + 1], oldest[i])
      surplus = surplus - 1
    end
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
