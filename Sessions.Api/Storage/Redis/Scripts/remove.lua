-- 1: which to remove: live, one that the owner may have; user, the owner's, whatever its state; expired, one that is; evict, the owner's
-- with the key in 2, if it has not been active since 3; revoke, none. 2: the key ('': any). 4: a lease to be taken away ('': all that
-- stand on it, for live and user). Answers with 0 nothing there, 1 removed, 2 left alone; and what was there: as remains, with activity
-- and expiry behind.
local mode, key = arg(1), arg(2)
local kind_of = redis.call('TYPE', head)
if type(kind_of) == 'table' then kind_of = kind_of.ok end
if arg(4) ~= '' then revoke(arg(4)) end
if kind_of == 'none' then
  -- A first turn that is running must not undo this.
  if (mode == 'live' and key == '') or (mode == 'user' and arg(4) == '') then revoke() end
  return {0}
end
local can_read, s = pcall(stored)
if not can_read then
  local user = kind_of == 'hash' and redis.call('HGET', head, 'u')
  if mode == 'revoke' or mode == 'evict' or mode == 'live' and not may_have(user)
    or mode == 'user' and user and user ~= owner then
    return {2, false}
  end
  redis.call('DEL', unpack(KEYS))
  return {1, {user or '', '', '0', '', 0, 0, 0, 0}}
end
local is_live = s.x > now
local left = remains(s)
left[7], left[8] = text(s.activity), text(s.x)
if not is_live and (mode == 'live' and key == '' or mode == 'user' and arg(4) == '') then revoke() end
if mode == 'revoke'
  or key ~= '' and s.key ~= key
  or mode == 'live' and not (is_live and may_have(s.user))
  or mode == 'user' and s.user ~= owner
  or mode == 'expired' and is_live
  or mode == 'evict' and is_live
    and (s.user ~= (owner ~= '' and owner) or s.activity > tonumber(arg(3))) then
  return {2, left}
end
-- Whoever runs a turn on it finds that it is gone; the places of those who wait, and what was said to holders, stay for whoever comes
-- next.
redis.call('DEL', head, turns, branches, answered, lease)
return {1, left}
