-- KEYS: what a session's key leads to, or another string. ARGV: the value with which it is to go.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
