-- 1: whether a lease of one's own is needed, 2 to 7: user, key, kind, origin, reservation, metadata, 8: the tag of the state. KEYS 8 to
-- 10: turns, runs and answered requests that stand ready to be taken over. From 9 on: further fields. Answers with 0 the head, what an
-- expired session left; 1 there is a session, 2 the lease was lost or revoked.
local s, expired = open()
local own = held()
local revoked = is_revoked()
let_go()
if s then return {1} end
if revoked or arg(1) == '1' and not own then return {2} end
local left = remains(expired)
s = create(arg(2), arg(3), arg(4), arg(5), arg(6), arg(7))
redis.call('HSET', head, 'v', 1, 'g', arg(8))
for i = 17, #ARGV, 2 do redis.call('HSET', head, ARGV[i], ARGV[i + 1]) end
for i = 8, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('RENAME', KEYS[i], KEYS[i - 6]) end
end
redis.call('HSET', head, 'n', redis.call('LLEN', turns))
keep(tonumber(redis.call('HGET', head, 'x')), true)
return {0, fields(), left, redis.call('LINDEX', turns, -1)}
