-- ARGV 6: the version expected, 7: the metadata.
if not found() then return false end
local replaced = 0
if redis.call('HGET', session, 'v') == ARGV[6] then
  replaced = 1
  redis.call('HSET', session, 'm', ARGV[7])
  redis.call('HINCRBY', session, 'v', 1)
end
return {replaced, redis.call('HGETALL', session), redis.call('LINDEX', turns, -1)}
