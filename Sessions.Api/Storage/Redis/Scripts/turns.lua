-- 1: how many, 2: how many bytes in this step, 3: behind which turn ('': from the start), 4: whether newest first, 5: the tip ('': the
-- newest, *: all turns in order), 6: the key the session must have ('': any), 7: whether its last turn is wanted. Answers with nothing
-- where there is no session; the head, its last turn, numbers, turns, whether there are more (-1: there is no such tip).
local s = open()
if not s or not may_have(s.user) or arg(6) ~= '' and s.key ~= arg(6) then return false end
local all = arg(5) == '*'
local tip = not all and tonumber(arg(5)) or s.count
if tip < 0 or tip > s.count then return {fields(), redis.call('LINDEX', turns, -1), {}, {}, -1} end
local page = new_page(s, tonumber(arg(1)), tonumber(arg(2)), -1)
local more = false
if all then run_of = function() return 1, 0 end end
if arg(4) == '1' then
  more = read_back(page, tip, tonumber(arg(3)) or tip + 1) > 0
else
  more = read_on(page, tip, math.max(tonumber(arg(3)) or 0, 0))
end
return {fields(), arg(7) == '1' and redis.call('LINDEX', turns, -1), page.numbers, page.values, more and 1 or 0}
