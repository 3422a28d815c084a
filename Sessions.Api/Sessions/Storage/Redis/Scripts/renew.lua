-- ARGV 6: token, 7: how long the lease lasts, 8: the incarnation the turn stands on ('': none). Also takes a lease that has run out, unless
-- somebody else has; what was done meanwhile is found out by the commit. A turn that has lost its ground keeps nobody waiting.
local s = redis.call('HMGET', session, 'i', 'a')
local stands = s[1] == ARGV[8]
if ARGV[8] == '' then stands = not live(s[2]) end
local holder = redis.call('GET', lease)
if not stands or holder and holder ~= ARGV[6] then return 0 end
redis.call('SET', lease, ARGV[6], 'PX', ARGV[7])
keep()
return 1
