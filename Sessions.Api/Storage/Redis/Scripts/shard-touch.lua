-- KEYS: a part of the index of all sessions of a kind: by activity, by expiry; entries of sessions that are about to be made. ARGV: the
-- entry, activity, expiry, whether expiry may come nearer, the entry that was made beforehand ('': none), how long the keys live, whether
-- only entries that are there are moved. Answers with whether they are there.
-- Where the entry that was made beforehand was taken away, the session was: it is not to come in behind that.
local must_be_there = ARGV[7] == '1'
if ARGV[5] ~= '' and redis.call('ZREM', KEYS[3], ARGV[5]) == 0 then must_be_there = true end
if must_be_there and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
if ARGV[4] == '1' then redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) else redis.call('ZADD', KEYS[2], 'GT', ARGV[3], ARGV[1]) end
for i = 1, 2 do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[6]) then redis.call('PEXPIRE', KEYS[i], ARGV[6]) end
end
return 1
