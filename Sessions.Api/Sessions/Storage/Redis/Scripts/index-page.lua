-- KEYS: an index, those that have to go from it. ARGV 1: whether newest first, 2: behind which activity ('': from the start), 3: how many.
-- Answers with those to be removed, entries of just that activity, entries behind it.
local range, from, to = 'ZRANGEBYSCORE', '-inf', '+inf'
if ARGV[1] == '1' then range, from, to = 'ZREVRANGEBYSCORE', '+inf', '-inf' end
local same, doomed = {}, {}
if ARGV[2] ~= '' then
  same = redis.call(range, KEYS[1], ARGV[2], ARGV[2], 'WITHSCORES')
  from = '(' .. ARGV[2]
end
if KEYS[2] then doomed = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES') end
return {doomed, same, redis.call(range, KEYS[1], from, to, 'WITHSCORES', 'LIMIT', 0, ARGV[3])}
