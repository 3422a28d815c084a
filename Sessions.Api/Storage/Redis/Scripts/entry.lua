-- Entries of sessions that are about to be made, scored by this server's clock. KEYS: the index; what says that its owner is being erased.
-- ARGV: the entry, how long the key lives. Sees to the entry being there; not while the owner is being erased, so that this comes to an
-- end.
-- What says so and does not go by itself is none of ours.
local erasing = KEYS[2] and redis.call('PTTL', KEYS[2]) or -2
if erasing == -1 then error('DAMAGED') end
if erasing ~= -2 and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
