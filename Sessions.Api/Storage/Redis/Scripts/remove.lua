-- 1: which to remove: live, one that the owner may have; user, the owner's, whatever its state; expired, one that is; evict, the owner's
-- with the key in 2, if it has not been active since 3; revoke, none. 2: the key ('': any). 4: a lease to be taken away ('': all that
-- stand on it, for live and user). Answers with 0 nothing there, 1 removed, 2 left alone; and what was there: as remains, with activity
-- and expiry behind.
local mode, key = arg(1), arg(2)
local kind_of = redis.call('TYPE', head)
if type(kind_of) == 'table' then kind_of = kind_of.ok end
local is_whole = mode == 'live' and key == '' or mode == 'user' and arg(4) == ''

-- What stands beside a session and can't be read goes with it: else it would be in the way of whoever comes next.
local function mend()
  if not pcall(held) then redis.call('DEL', lease) end
  if not pcall(next_in_line) then redis.call('DEL', waiter) end
  if not pcall(is_told) then redis.call('DEL', told) end
end

if is_whole or arg(4) ~= '' then mend() end
if arg(4) ~= '' then revoke(arg(4)) end
if kind_of == 'none' then
  -- A first turn that is running must not undo this.
  if is_whole then revoke() end
  return {0}
end
local can_read, s = pcall(stored)
if not can_read then
  local f = kind_of == 'hash' and redis.call('HMGET', head, 'u', 'i', 'k', 'r') or {false, false, false, false}
  local user, own_key = f[1], f[2] and #f[2] == 16 and f[2] or ''
  if mode == 'revoke' or mode == 'evict' or mode == 'live' and not may_have(user)
    or mode == 'user' and user and user ~= owner or key ~= '' and own_key ~= '' and own_key ~= key then
    return {2, false}
  end
  redis.call('DEL', unpack(KEYS))
  return {1, {user or '', own_key, whole(f[3], 0, 2) and f[3] or '0', f[4] or '', 0, 0, 0, 0}}
end
local is_live = s.x > now
local left = remains(s)
left[7], left[8] = text(s.activity), text(s.x)
if not is_live and is_whole then revoke() end
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
