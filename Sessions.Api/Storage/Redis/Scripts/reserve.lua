-- KEYS: the reservation. ARGV: now, when it lapses, how long the key lives, body, session id, the id in a lapsed one that nothing stands
-- behind any more, whether there is room for a new one. Answers with id, body, and 0 lapsed, 1 valid, 2 new; nothing: there is no room.
local r = redis.call('HMGET', KEYS[1], 's', 'b', 'x')
if r[1] then
  if not (r[2] and #r[2] == 16 and tonumber(r[3] or '')) then error('DAMAGED') end
  local valid = tonumber(r[3]) > tonumber(ARGV[1])
  if valid or r[1] ~= ARGV[6] then return {r[1], r[2], valid and 1 or 0} end
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  error('DAMAGED')
end
if ARGV[7] ~= '1' then return false end
redis.call('HSET', KEYS[1], 's', ARGV[5], 'b', ARGV[4], 'x', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {ARGV[5], ARGV[4], 2}
