-- One that has to go: whether it does. It stays where there is room after all, or where another goes in its place. KEYS: the index, the
-- bytes, those that have to go. ARGV: how many there may be (0: any number), how long the keys live, the entry and its activity, another
-- entry and the activity that it was chosen for ('': none), whether it is known which of the index live; then these. Answers with 0 it
-- had not to go any more, 1 it stays, 2 it goes, 3 the other goes, 4 look again.
-- What goes is marked by half a microsecond in the same step, so that nobody brings it back whom an entry of one that is gone misleads.
local doomed = redis.call('ZSCORE', KEYS[3], ARGV[3])
if not doomed then return 0 end
if tonumber(doomed) % 1 ~= 0 then return 2 end
local function goes(entry, activity) redis.call('ZADD', KEYS[3], string.format('%.1f', tonumber(activity) + 0.5), entry) end
local most, answer = tonumber(ARGV[1]), 1
local count = redis.call('ZCARD', KEYS[1])
if most > 0 and count >= most then
  local live = count
  if ARGV[7] == '1' then
    live = 0
    for i = 8, #ARGV do if redis.call('ZSCORE', KEYS[1], ARGV[i]) then live = live + 1 end end
  end
  if live < most then return 4 end
  if ARGV[5] == '' then
    goes(ARGV[3], doomed)
    return 2
  end
  local score = redis.call('ZSCORE', KEYS[1], ARGV[5])
  if not score or tonumber(score) ~= tonumber(ARGV[6]) then return 4 end
  redis.call('ZREM', KEYS[1], ARGV[5])
  goes(ARGV[5], ARGV[6])
  answer = 3
end
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZADD', KEYS[1], 'GT', ARGV[4], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return answer
