-- ARGV 6: behind which turn, 7: how many, 8: whether newest first. Answers with the count, the first turn's number, the turns in order.
if not found() then return false end
local count, edge, limit = tonumber(redis.call('HGET', session, 'n')), tonumber(ARGV[6]), tonumber(ARGV[7])
local first, last
if ARGV[8] == '1' then
  if edge > count then edge = count + 1 end
  first, last = math.max(1, edge - limit), edge - 1
else
  first, last = edge + 1, math.min(count, edge + limit)
end
if last < first then return {count, first, {}} end
return {count, first, redis.call('LRANGE', turns, first - 1, last - 1)}
