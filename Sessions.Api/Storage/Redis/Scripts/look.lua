-- What an index entry stands for. 1: the key ('': any). Answers with nothing where there is no such session; else user, key, kind,
-- activity, expiry, bytes, whether somebody has a lease on it, reservation, turns.
local s = open()
if not s or arg(1) ~= '' and s.key ~= arg(1) then return false end
local own, other = held()
return {s.user or '', s.key, s.kind, text(s.activity), text(s.x), text(s.bytes), (own or other) and 1 or 0, s.reservation or '', s.count}
