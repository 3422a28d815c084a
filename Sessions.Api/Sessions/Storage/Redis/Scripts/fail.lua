-- ARGV 6: token, 7: the incarnation the turn stands on ('': none), 8: why, 9: whether a session may be made for it, 10: its incarnation,
-- 11: reservation. Answers with 0 nothing, 1 counted, 2 counted in a new session; then as commit does.
let_go(ARGV[6], held())
local s = redis.call('HMGET', session, 'i', 'u', 'a')
local status, replaced = 1, false
if ARGV[7] ~= '' then
  if s[1] ~= ARGV[7] or not may_have(s[2]) then return {0} end
elseif live(s[3]) then
  if not may_have(s[2]) then return {0} end
elseif ARGV[9] == '1' then
  status = 2
  replaced = create('query', ARGV[10], ARGV[11])
else
  return {0}
end
redis.call('HINCRBY', session, 'e', 1)
redis.call('HSET', session, 'le', ARGV[8])
local user, reservation, pending, activity = touch()
return {status, user, reservation, pending, replaced, activity}
