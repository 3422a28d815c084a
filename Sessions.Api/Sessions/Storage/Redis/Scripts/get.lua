-- The session and its last turn.
if not found() then return false end
return {redis.call('HGETALL', session), redis.call('LINDEX', turns, -1)}
