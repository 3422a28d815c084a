-- 1: the key of the session the turn stands on ('': there was none), 2 to 5: its turns, rewrites, version and tag then, 6: the turn, 7:
-- the number it is written with, 8: where it begins a run of its own ('': it does not), 9: the bytes of its texts, 10: the tag of the new
-- state, 11 and 12: idempotency key and body, 13 and 14: what a summary covers ('': there is none) and its text, 15: whether others may
-- have come in between, 16 to 21: of a new session user, key, kind, origin, reservation, metadata, 22: when the turn began. Answers with
-- 0 written, 1 stale, 2 gone, 3 to be written with the number behind that, on the bytes behind that. Behind 0 come the head, whether nothing came in between,
-- whether keys were kept, what an expired session left.
local ground = arg(1)
local s, expired = open()
local own, other = held()
local revoked = not own and is_revoked()
local beside = arg(15) == '1'
local is_same = s and s.key == ground and may_have(s.user)
local is_answered = s and arg(11) ~= '' and redis.call('HEXISTS', answered, arg(11)) == 1
if is_same and beside and not revoked and not is_answered and s.count + 1 ~= tonumber(arg(7)) then
  return {3, s.count + 1, text(s.bytes)}
end
let_go()
if revoked then return {2} end
local left, is_next = false, true
if ground == '' then
  -- An erasure takes the lease away before it forgets the entry in the index that was made beforehand: without it, nobody would know of
  -- the session.
  if s or not own then return {1} end
  left = remains(expired)
  s = create(arg(16), arg(17), arg(18), arg(19), arg(20), arg(21))
  -- As old as its first turn.
  if tonumber(arg(22)) < now then redis.call('HSET', head, 'c', arg(22)) end
else
  if not is_same then return {2} end
  local claims = not s.user and owner ~= ''
  if is_answered or not beside and (s.count ~= tonumber(arg(2)) or other) or claims and token ~= '' and not own then return {1} end
  is_next = s.version == arg(4) and s.tag == arg(5)
  if claims then redis.call('HSET', head, 'u', owner) end
end
redis.call('RPUSH', turns, arg(6))
if arg(8) ~= '' then redis.call('ZADD', branches, arg(7), arg(8)) end
local bytes = s.bytes + tonumber(arg(9))
-- Where a turn was rewritten meanwhile, the summary may hold what was deleted.
if arg(13) ~= '' and (ground == '' or s.rewrites == arg(3)) then
  bytes = bytes + #arg(14) - redis.call('HSTRLEN', head, 'st')
  redis.call('HSET', head, 'st', arg(14), 'sc', arg(13))
end
if arg(11) ~= '' then redis.call('HSET', answered, arg(11), arg(12) .. text(s.count + 1)) end
redis.call('HSET', head, 'n', text(s.count + 1), 'b', text(bytes))
touch(s, arg(10))
-- A key that this has made does not live on any time it was given before.
local kept = keep(s.x, s.count == 0 or arg(8) ~= '' or arg(11) ~= '')
return {0, fields(), is_next and 1 or 0, kept, left}
