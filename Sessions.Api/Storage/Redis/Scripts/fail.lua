-- 1: the key of the session the turn stood on ('': there was none), 2 and 3: its version and tag then, 4: why it failed, 5: the tag of the
-- new state, 6: whether a session may be made for it, 7 to 12: its user, key, kind, origin, reservation, metadata. Answers as commit does;
-- 4: nothing was to be made.
local s, expired = open()
local own = held()
local revoked = not own and is_revoked()
let_go()
if revoked then return {2} end
local left, is_next = false, true
if arg(1) == '' then
  if s then return {1} end
  if arg(6) ~= '1' then return {4} end
  if not own then return {1} end
  left = remains(expired)
  s = create(arg(7), arg(8), arg(9), arg(10), arg(11), arg(12))
else
  if not (s and s.key == arg(1) and may_have(s.user)) then return {2} end
  is_next = s.version == arg(2) and s.tag == arg(3)
end
redis.call('HINCRBY', head, 'e', 1)
redis.call('HSET', head, 'le', arg(4))
touch(s, arg(5))
return {0, fields(), is_next and 1 or 0, keep(s.x, false), left}
