-- KEYS: indexes. ARGV 1: how many of them are read in order; of the others at most 1,000 entries come. 2: whether newest first, 3: behind
-- which score ('': from the start), 4: how many. Answers with a list for each: entries of just that score and those behind it, each with
-- its score; and behind all the server's time in milliseconds.
local answer, range, from, to = {}, 'ZRANGEBYSCORE', '-inf', '+inf'
if ARGV[2] == '1' then range, from, to = 'ZREVRANGEBYSCORE', '+inf', '-inf' end
for i = 1, #KEYS do
  if i > tonumber(ARGV[1]) then
    answer[i] = redis.call('ZRANGE', KEYS[i], 0, 999, 'WITHSCORES')
  else
    local found = {}
    local start = from
    if ARGV[3] ~= '' then
      found = redis.call(range, KEYS[i], ARGV[3], ARGV[3], 'WITHSCORES')
      start = '(' .. ARGV[3]
    end
    for _, value in ipairs(redis.call(range, KEYS[i], start, to, 'WITHSCORES', 'LIMIT', 0, ARGV[4])) do found[#found + 1] = value end
    answer[i] = found
  end
end
local time = redis.call('TIME')
answer[#answer + 1] = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return answer
