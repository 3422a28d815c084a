-- KEYS: the reservation. ARGV: the session that is gone, now where it had expired: a reservation that was renewed since is for the next of
-- that id.
local r = redis.call('HMGET', KEYS[1], 's', 'x')
if r[1] == ARGV[1] and (ARGV[2] == '' or (tonumber(r[2] or '') or 0) <= tonumber(ARGV[2])) then redis.call('DEL', KEYS[1]) end
