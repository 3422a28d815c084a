-- What is no activity. 1 to 3: the key, version and tag that the session must have, 4: the tag of the new state, 5: m metadata, t a turn,
-- 6: its value, 7: the turn's number, 8: by how many bytes the turn's texts grow, 9: whether the summary goes. Answers with 0 and the
-- head, 1 stale, 2 gone.
local s = open()
let_go()
if not (s and s.key == arg(1) and may_have(s.user)) then return {2} end
if s.version ~= arg(2) or s.tag ~= arg(3) then return {1} end
local bytes = s.bytes
if arg(5) == 'm' then
  bytes = bytes + #arg(6) - redis.call('HSTRLEN', head, 'm')
  redis.call('HSET', head, 'm', arg(6))
else
  redis.call('LSET', turns, tonumber(arg(7)) - 1, arg(6))
  redis.call('HINCRBY', head, 'w', 1)
  bytes = bytes + tonumber(arg(8))
  if arg(9) == '1' then
    bytes = bytes - redis.call('HSTRLEN', head, 'st')
    redis.call('HDEL', head, 'st', 'sc')
  end
end
redis.call('HSET', head, 'b', text(bytes), 'v', text(tonumber(s.version) + 1), 'g', arg(4))
return {0, fields()}
