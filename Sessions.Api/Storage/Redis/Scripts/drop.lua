-- KEYS: indexes; the last may be the bytes of what they name. ARGV: whether it is, entries. They name what is gone, and nothing else ever:
-- keys are not given twice.
local last = #KEYS
if ARGV[1] == '1' then last = last - 1 end
local dropped = 0
for i = 2, #ARGV do
  for k = 1, last do
    local removed = redis.call('ZREM', KEYS[k], ARGV[i])
    if k == 1 then dropped = dropped + removed end
  end
  if ARGV[1] == '1' then
    local bytes = redis.call('HGET', KEYS[#KEYS], ARGV[i])
    if bytes then
      redis.call('HDEL', KEYS[#KEYS], ARGV[i])
      redis.call('HINCRBY', KEYS[#KEYS], '=', string.format('%.0f', 0 - (tonumber(bytes) or 0)))
    end
  end
end
return dropped
