-- 1: how many of the last turns, 2: how many bytes of them in this step, 3 and 4: idempotency key and body, 5: how long the lease lasts
-- (0: none is asked for), 6: how much the session must have left to live, 7: how long a place in front of the lease lasts (0: does not
-- wait), 8: whether others are kept away, 9: the tip ('': the newest), 10 to 14: what is remembered: key ('': nothing), version, tag, last
-- turn, rewrites, 15: the key the session must have ('': any), 16: the tag of a new state. Answers with 0 open, 1 not found, 2 replayed, 3
-- key reused, 4 busy, 5 no such turn, 6 once more: the index entry for this lease was removed before it was taken. Behind 0 comes nothing
-- where there is no session; turns, user, kind, bytes where it is as remembered; else the head, its last turn (false: among the turns),
-- numbers, turns newest first, the turn that would be next.
local s, expired = open()
if arg(15) ~= '' and not (s and s.key == arg(15)) then return {1} end
if s then
  if not may_have(s.user) then return {1} end
  if arg(3) ~= '' then
    local answer = redis.call('HGET', answered, arg(3))
    if answer then
      if string.sub(answer, 1, 16) ~= arg(4) then return {3} end
      local number = tonumber(string.sub(answer, 17))
      return {2, fields(), redis.call('LINDEX', turns, -1), redis.call('LINDEX', turns, number - 1), number}
    end
  end
end
local tip = tonumber(arg(9)) or s and s.count or 0
if tip < 0 or tip > (s and s.count or 0) then
  if not s then return {5} end
  return {5, fields(), redis.call('LINDEX', turns, -1)}
end

if arg(5) ~= '0' then
  if is_revoked() then
    redis.call('HDEL', told, token)
    return {6}
  end
  if arg(8) == '1' then
    local own, other = held()
    local next_one = next_in_line()
    if other or not own and next_one and next_one ~= token then
      -- Whoever waits longest is next: else a busy replica would never let go.
      if tonumber(arg(7)) > 0 and (not next_one or next_one == token) then redis.call('SET', waiter, token, 'PX', arg(7)) end
      return {4}
    end
    if next_one == token then redis.call('DEL', waiter) end
  end
  take(arg(5), member_of(s, arg(8) == '1'))
  if s and s.x < now + tonumber(arg(6)) then
    s.x = now + tonumber(arg(6))
    s.version, s.tag = text(tonumber(s.version) + 1), arg(16)
    redis.call('HSET', head, 'x', text(s.x), 'v', s.version, 'g', s.tag)
    keep(s.x, false)
  end
end
if not s then return {0} end

local is_known = s.key == arg(10)
if is_known and s.version == arg(11) and s.tag == arg(12) and tip == s.count then
  return {0, s.count, s.user or '', s.kind, text(s.bytes)}
end
local page = new_page(s, tonumber(arg(1)), tonumber(arg(2)), is_known and s.rewrites == arg(14) and tonumber(arg(13)) or -1)
local next_turn = 0
if page.limit > 0 then next_turn = read_back(page, tip, tip + 1) end
local last = false
if page.numbers[1] ~= s.count then last = redis.call('LINDEX', turns, -1) end
return {0, fields(), last, page.numbers, page.values, next_turn}
