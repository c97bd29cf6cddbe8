-- ARGV from 4: job, tenant or nothing.
local told = redis.call('HMGET', P .. 'j:' .. ARGV[4], 'tenant', 'work')
if not told[1] or (ARGV[5] ~= '' and told[1] ~= ARGV[5]) then return answer(false) end
local work = find_work(told[2])
if work and work.state == DEAD then revive(work, work.priority) end
return answer({ told[1], show(ARGV[4]) })
