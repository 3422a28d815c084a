-- 1: how long the lease lasts, 2: the key of the session the turn stands on ('': there is none), 3: whether others are kept away, 4:
-- whether the lease may be taken again where it ran out. What was done meanwhile is found out by the commit. A turn that has lost its
-- ground keeps nobody waiting. Answers with 0 lost, 1 held, 2 to stop.
local s = open()
local stands = s and s.key == arg(2) or not s and arg(2) == ''
local own, other = held()
local member = member_of(s, arg(3) == '1')
local said = redis.call('HGET', told, token)
if not stands or said == 'r' or other and arg(3) == '1' or not own and arg(4) ~= '1' then return 0 end
take(arg(1), member)
return said == 'c' and 2 or 1
