-- Chooses those that have to go for their bytes: they leave the index in one step with being counted, so that two who make room do not
-- make it twice. KEYS: the index, the bytes, those that have to go. ARGV: how many bytes there may be, how long the keys live; entries
-- with the activity they were chosen for, first to go first. Answers with those that have to go.
local chosen = {}
for i = 3, #ARGV, 2 do
  if tonumber(redis.call('HGET', KEYS[2], '=') or 0) <= tonumber(ARGV[1]) then break end
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i])
    redis.call('PEXPIRE', KEYS[3], ARGV[2])
    local bytes = redis.call('HGET', KEYS[2], ARGV[i])
    if bytes then
      redis.call('HDEL', KEYS[2], ARGV[i])
      redis.call('HINCRBY', KEYS[2], '=', string.format('%.0f', 0 - tonumber(bytes)))
    end
    chosen[#chosen + 1] = ARGV[i]
  end
end
return chosen
