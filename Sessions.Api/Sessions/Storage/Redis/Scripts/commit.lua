-- ARGV 6: token, 7: the incarnation the turn stands on ('': none), 8: how many turns it had, 9: the turn, 10: incarnation of a new session,
-- 11: reservation, 12 and 13: idempotency key and body, 14 and 15: summary and how many turns it covers.
-- Answers with 0 committed, 1 stale, 2 gone; then user, reservation, whether pending, what an expired one left, activity, version, whether
-- the indexes are to be kept as well.
local token, ground = ARGV[6], ARGV[7]
local s = redis.call('HMGET', session, 'i', 'u', 'n', 'a', 'v', 'r', 'p')
local status = 0
if ground == '' then
  if live(s[4]) then status = 1 end
elseif s[1] ~= ground or not may_have(s[2]) then
  status = 2
elseif s[3] ~= ARGV[8] then
  status = 1
end
local holder, next_one = held()
if status == 0 and holder and holder ~= token then status = 1 end
let_go(token, holder, next_one)
if status > 0 then return {status} end

local replaced, user, reservation, pending = false, s[2], s[6], s[7]
local count, version, activity, is_new = s[3], s[5], s[4], ground == ''
if is_new then
  replaced = create('query', ARGV[10], ARGV[11])
  user, reservation, pending, count, version, activity = owner, ARGV[11], true, 0, 0, ARGV[1]
elseif not user and owner ~= '' then
  user, pending = owner, true
  redis.call('HSET', session, 'u', owner, 'p', 1)
end
-- A clock that was set back does not take activity back.
if tonumber(activity) < now then activity = ARGV[1] end
count, version = tostring(count + 1), tostring(version + 1)
redis.call('RPUSH', turns, ARGV[9])
redis.call('HSET', session, 'n', count, 'v', version, 'a', activity)
if ARGV[15] ~= '' then redis.call('HSET', session, 'st', ARGV[14], 'sc', ARGV[15]) end
if ARGV[12] ~= '' then redis.call('HSET', answered, ARGV[12], ARGV[13] .. count) end
-- A key that this has made does not live on any time it was given before.
local due = is_new or count == '1' or ARGV[12] ~= '' or is_due()
if due then keep() end
return {0, user or '', reservation or '', pending and 1 or 0, replaced, activity, version, due and 1 or 0}
