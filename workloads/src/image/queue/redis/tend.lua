-- ARGV from 4: node, fault of a lost lease, whether that is a crash, policy (5), whether to forget, then how long jobs are kept,
-- dead ones, and works that are done (nothing: for good), and the node's secret. What comes by itself: works become due, leases
-- end, old things are forgotten, and a secret that is gone is put back. Any node does it for all.
local node, fault, is_crash, policy = ARGV[4], ARGV[5], ARGV[6] == '1', policy_at(7)

-- Works and jobs that one round treats, at most, so that nobody waits long for it.
local ROUND_MAX = 100
local FORGOTTEN_MAX = 200

for priority = 0, 1 do
  for _, kind in ipairs({ 'ready:', 'aside:' }) do
    local stream = P .. kind .. priority
    -- There unless this is the first time, or Redis has lost it.
    local groups = redis.call('EXISTS', stream) == 1 and #redis.call('XINFO', 'GROUPS', stream) or 0
    if groups == 0 then redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM') end
    local over = redis.call('XAUTOCLAIM', stream, GROUP, node, LEASE_MS, '0-0', 'COUNT', ROUND_MAX, 'JUSTID')
    for _, entry in ipairs(over[2]) do
      local found = redis.call('XRANGE', stream, entry, entry)[1]
      local work = found and find_work(found[2][2])
      if work and work.state == LEASED and work.entry == entry then
        count('expired')
        note_all(work.id, 'expired')
        end_attempt(work, fault, true, is_crash, policy)
      else
        redis.call('XACK', stream, GROUP, entry)
        redis.call('XDEL', stream, entry)
      end
    end
    -- Consumers are nodes, and nodes that went leave theirs behind: those that hold nothing and did nothing for long.
    if ARGV[12] == '1' then
      for _, told in ipairs(redis.call('XINFO', 'CONSUMERS', stream, GROUP)) do
        local consumer = {}
        for at = 1, #told, 2 do consumer[told[at]] = told[at + 1] end
        if consumer.pending == 0 and consumer.idle > 3600000 then
          redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, consumer.name)
        end
      end
    end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'later', '-inf', whole(NOW), 'LIMIT', 0, ROUND_MAX)) do
  redis.call('ZREM', P .. 'later', id)
  local work = find_work(id)
  if work and work.state == WAITING and work.entry == '' then
    place(work, work.due)
    touch(id)
  end
end

local more = 0
if ARGV[12] == '1' then
  local function forget_jobs(set, kept)
    local old = redis.call('ZRANGEBYSCORE', set, '-inf', '(' .. whole(NOW - kept), 'LIMIT', 0, FORGOTTEN_MAX)
    if #old == FORGOTTEN_MAX then more = 1 end
    for _, job in ipairs(old) do
      local told = redis.call('HMGET', P .. 'j:' .. job, 'work', 'idempotency', 'tenant')
      redis.call('ZREM', set, job)
      redis.call('DEL', P .. 'j:' .. job)
      if told[1] then
        if told[2] and told[2] ~= '' and redis.call('HGET', P .. 'idem', told[2]) == job then
          redis.call('HDEL', P .. 'idem', told[2])
        end
        redis.call('SREM', P .. 'wj:' .. told[1], job)
        -- There yet if a node of an older version has ended it.
        redis.call('SREM', P .. 'open:' .. told[3], job)
        local work = find_work(told[1])
        if work and work.state >= DONE and redis.call('SCARD', P .. 'wj:' .. work.id) == 0 then
          local finished = redis.call('HGET', P .. 'w:' .. work.id, 'finished')
          redis.call('ZADD', P .. 'idle:' .. work.state, finished or whole(NOW), work.id)
        end
      end
    end
  end
  local jobs_kept, dead_kept = tonumber(ARGV[13]), tonumber(ARGV[14])
  forget_jobs(P .. 'finished', jobs_kept)
  forget_jobs(P .. 'finished:dead', math.max(dead_kept, jobs_kept))
  for state = DONE, CANCELLED do
    local kept = state == DONE and tonumber(ARGV[15]) or state ~= DONE and jobs_kept
    if kept then
      local set = P .. 'idle:' .. state
      local old = redis.call('ZRANGEBYSCORE', set, '-inf', '(' .. whole(NOW - kept), 'LIMIT', 0, FORGOTTEN_MAX)
      if #old == FORGOTTEN_MAX then more = 1 end
      for _, id in ipairs(old) do
        redis.call('ZREM', set, id)
        local work = find_work(id)
        if work and work.state == state and redis.call('SCARD', P .. 'wj:' .. id) == 0 then forget_work(work) end
      end
    end
  end
end

-- How long until something is due by itself.
local first = redis.call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')[2]
local secret = redis.call('GET', P .. 'secret')
-- Written only where it is missing: a Redis that is full refuses whatever writes.
if not secret then
  secret = ARGV[16]
  redis.call('SET', P .. 'secret', secret)
end
return answer({ first and math.max(tonumber(first) - NOW, 0) or -1, more, secret })
