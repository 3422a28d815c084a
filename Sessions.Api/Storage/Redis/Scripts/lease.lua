-- 1: how long the lease lasts. Takes one on a session that does not exist, or keeps it. Answers with 0 taken, 1 there is a session, 2
-- somebody else has one, 3 it was revoked.
if open() then return 1 end
local _, other = held()
if is_revoked() then return 3 end
if other then return 2 end
take(arg(1))
return 0
