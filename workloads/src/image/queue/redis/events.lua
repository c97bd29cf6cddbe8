-- ARGV from 4: outbox, node, for how long it is the one that tells, how many, what comes after what was told (or nothing). Takes
-- out what was told, and gives the first events of those that wait; one node tells for all. How many wait, how many dead letters
-- there are, and events.
local outbox, node, lease, most, kept = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local events, sender = P .. outbox, P .. (outbox == 'events' and 'sender' or 'sender:' .. outbox)
if kept ~= '' then redis.call('XTRIM', events, 'MINID', kept) end
local waiting, dead = redis.call('XLEN', events), redis.call('XLEN', P .. 'letters')
if waiting == 0 or most == '0' then return answer({ waiting, dead, {} }) end
local found = redis.call('GET', sender)
if found and found ~= node then return answer({ waiting, dead, {} }) end
redis.call('SET', sender, node, 'PX', lease)
return answer({ waiting, dead, redis.call('XRANGE', events, '-', '+', 'COUNT', most) })
