-- 1: the key the session must have ('': any). The head and its last turn.
local s = open()
if not s or not may_have(s.user) or arg(1) ~= '' and s.key ~= arg(1) then return false end
return {fields(), redis.call('LINDEX', turns, -1)}
