-- ARGV 6: token, 7: the incarnation the turn stands on ('': none), 8: how many turns it had, 9: the turn, 10: incarnation of a new session,
-- 11: reservation, 12 and 13: idempotency key and body, 14 and 15: summary and how many turns it covers.
-- Answers with 0 committed, 1 stale, 2 gone; then user, reservation, whether pending, what an expired one left, activity.
local token, ground = ARGV[6], ARGV[7]
local s = redis.call('HMGET', session, 'i', 'u', 'n', 'a')
local status = 0
if ground == '' then
  if live(s[4]) then status = 1 end
elseif s[1] ~= ground or not may_have(s[2]) then
  status = 2
elseif s[3] ~= ARGV[8] then
  status = 1
end
local holder = redis.call('GET', lease)
if status == 0 and holder and holder ~= token then status = 1 end
let_go(token)
if status > 0 then return {status} end

local replaced = false
if ground == '' then
  replaced = create('query', ARGV[10], ARGV[11])
elseif not s[2] and owner ~= '' then
  redis.call('HSET', session, 'u', owner, 'p', 1)
end
redis.call('RPUSH', turns, ARGV[9])
local number = redis.call('HINCRBY', session, 'n', 1)
if ARGV[12] ~= '' then redis.call('HSET', answered, ARGV[12], ARGV[13] .. number) end
if ARGV[15] ~= '' then redis.call('HSET', session, 'st', ARGV[14], 'sc', ARGV[15]) end
local user, reservation, pending, activity = touch()
return {0, user, reservation, pending, replaced, activity}
