-- ARGV from 4: node, then for each lease its work, turn and progress. Renews leases: their idle time begins anew.
local held = {}
for at = 5, #ARGV, 3 do
  local work = holds(ARGV[at], ARGV[at + 1])
  held[#held + 1] = work and 1 or 0
  if work then
    redis.call('XCLAIM', work.stream, GROUP, ARGV[4], 0, work.entry, 'IDLE', 0, 'JUSTID')
    local key = P .. 'w:' .. work.id
    if redis.call('HGET', key, 'progress') ~= ARGV[at + 2] then
      redis.call('HSET', key, 'progress', ARGV[at + 2])
      -- Marked: who holds the lease need not ask anew for it.
      touch('p' .. work.id)
    end
  end
end
return answer(held)
