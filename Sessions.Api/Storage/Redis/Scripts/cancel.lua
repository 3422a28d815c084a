-- 1: the key the session must have ('': any). Answers with whether somebody has a lease on it.
local s = open()
if arg(1) ~= '' and not (s and s.key == arg(1)) then return 0 end
if s and not may_have(s.user) then return 0 end
local all, at, found = redis.call('ZRANGE', lease, 0, -1, 'WITHSCORES'), clock(), 0
for i = 1, #all, 2 do
  local user = string.sub(all[i], 23)
  if tonumber(all[i + 1]) > at and not is_use(all[i]) and (s or may_have(user ~= '' and user or false)) then
    tell(string.sub(all[i], 1, 22), 'c')
    found = 1
  end
end
return found
