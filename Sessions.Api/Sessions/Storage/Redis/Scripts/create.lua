-- ARGV 6: origin, 7: incarnation, 8: reservation, 9: metadata. KEYS 6 and 7: turns and answered requests that are ready to be taken over.
-- ARGV 10 on: further fields.
if live(redis.call('HGET', session, 'a')) then return {0} end
local replaced = create(ARGV[6], ARGV[7], ARGV[8])
redis.call('HSET', session, 'v', 1)
if ARGV[9] ~= '' then redis.call('HSET', session, 'm', ARGV[9]) end
for i = 10, #ARGV, 2 do redis.call('HSET', session, ARGV[i], ARGV[i + 1]) end
if KEYS[6] and redis.call('EXISTS', KEYS[6]) == 1 then
  redis.call('RENAME', KEYS[6], turns)
  redis.call('HSET', session, 'n', redis.call('LLEN', turns))
end
if KEYS[7] and redis.call('EXISTS', KEYS[7]) == 1 then redis.call('RENAME', KEYS[7], answered) end
keep()
return {1, replaced, redis.call('HGETALL', session), redis.call('LINDEX', turns, -1)}
