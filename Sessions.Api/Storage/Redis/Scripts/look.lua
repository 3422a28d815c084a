-- What an index entry stands for. 1: the key ('': any). Answers with nothing where there is no such session; else user, key, kind,
-- activity, expiry, bytes, whether a turn needs it, reservation, turns.
local s = open()
if not s or arg(1) ~= '' and s.key ~= arg(1) then return false end
local own, other, used = held()
return {s.user or '', s.key, s.kind, text(s.activity), text(s.x), text(s.bytes), (own or other or used) and 1 or 0, s.reservation or '', s.count}
