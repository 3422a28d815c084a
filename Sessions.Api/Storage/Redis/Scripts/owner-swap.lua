-- One that has to go stays: as there is room after all, or another goes in its place. KEYS: the index, the bytes, those that have to go.
-- ARGV: how many there may be (0: any number), how long the keys live, the entry and its activity, another entry and the activity that it
-- was chosen for ('': none). Answers with 0 it had not to go any more, 1 it stays, 2 it is to go.
if not redis.call('ZSCORE', KEYS[3], ARGV[3]) then return 0 end
local most = tonumber(ARGV[1])
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then
  local score = ARGV[5] ~= '' and redis.call('ZSCORE', KEYS[1], ARGV[5])
  if not score or tonumber(score) ~= tonumber(ARGV[6]) then return 2 end
  redis.call('ZREM', KEYS[1], ARGV[5])
  redis.call('ZADD', KEYS[3], ARGV[6], ARGV[5])
end
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZADD', KEYS[1], 'GT', ARGV[4], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return 1
