-- KEYS: an index, those that have to go from it. ARGV: activity, id, how long the index lives.
-- Only moves an entry that is there: none is added, so nobody has to make room. Answers with whether it was, and those that are still to be removed.
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return {0, {}} end
redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1, KEYS[2] and redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES') or {}}
