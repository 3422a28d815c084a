-- ARGV 6: which to remove. live: one that the owner may have; owned: the owner's, live or not; expired: one that is;
-- at: the owner's, if it has not been active since ARGV 7.
local left = remains()
if not left then return {0} end
local mode, mine = ARGV[6], left[1] == owner
if mode == 'live' and not found()
  or mode == 'owned' and not mine
  or mode == 'expired' and left[5] == 1
  or mode == 'at' and not (mine and left[2] == ARGV[7]) then
  return {2, left}
end
redis.call('DEL', session, turns, answered, lease, waiter)
return {1, left}
