-- ARGV from 4: node, for how long it is the one that sends, how many, what comes after what was sent (or nothing). Takes out what
-- was sent, and gives the first events of those that wait; one node sends for all. How many wait, and events.
local node, lease, most, kept = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local events = P .. 'events'
if kept ~= '' then redis.call('XTRIM', events, 'MINID', kept) end
local waiting = redis.call('XLEN', events)
if waiting == 0 or most == '0' then return answer({ waiting, {} }) end
local sender = redis.call('GET', P .. 'sender')
if sender and sender ~= node then return answer({ waiting, {} }) end
redis.call('SET', P .. 'sender', node, 'PX', lease)
return answer({ waiting, redis.call('XRANGE', events, '-', '+', 'COUNT', most) })
