-- KEYS: the reservation. ARGV: the session that is gone.
if redis.call('HGET', KEYS[1], 's') == ARGV[1] then redis.call('DEL', KEYS[1]) end
