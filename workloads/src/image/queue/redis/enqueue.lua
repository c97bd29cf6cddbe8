-- ARGV from 4: job, tenant, work's key, original, len, header, recipes, peak, cpu, priority, asked, delayed, wait, idempotency
-- key or nothing, request, most that may wait, fault's kind that may be asked for again.
local job, tenant, key, original = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local priority, idempotency, request = tonumber(ARGV[13]), ARGV[17], ARGV[18]

-- Asked again because the answer before was lost.
if redis.call('EXISTS', P .. 'j:' .. job) == 1 then return answer({ 'accepted', show(job) }) end
if idempotency ~= '' then
  local before = redis.call('HGET', P .. 'idem', idempotency)
  if before and redis.call('EXISTS', P .. 'j:' .. before) == 1 then
    local is_same = redis.call('HGET', P .. 'j:' .. before, 'request') == request
    return answer({ is_same and 'before' or 'reused', show(before) })
  end
end

local id = redis.call('HGET', P .. 'works', key)
local work = id and find_work(id)
if not work then
  local sums = depth()
  if tonumber(sums[2]) + tonumber(sums[3]) >= tonumber(ARGV[19]) then return answer({ 'refused' }) end
  id = whole(redis.call('INCR', P .. 'seq'))
  redis.call('HSET', P .. 'works', key, id)
  redis.call('HSET', P .. 'w:' .. id, 'key', key, 'state', WAITING, 'priority', priority, 'turn', 0, 'revision', 0,
    'attempts', 0, 'crashes', 0, 'original', original, 'len', ARGV[8], 'header', ARGV[9], 'recipes', ARGV[10],
    'peak', ARGV[11], 'cpu', ARGV[12])
  redis.call('SADD', P .. 'o:' .. original, id)
  work = find_work(id)
  sum(WAITING, priority, work.cpu, 1)
  place(work, NOW)
else
  count('joined')
  redis.call('ZREM', P .. 'idle:' .. work.state, id)
  if work.state == WAITING and priority < work.priority then
    sum(WAITING, work.priority, work.cpu, -1)
    sum(WAITING, priority, work.cpu, 1)
    leave(work)
    work.priority = priority
    redis.call('HSET', P .. 'w:' .. id, 'priority', priority)
    place(work, work.due)
  elseif work.state == DEAD or work.state == CANCELLED then
    revive(work, priority)
  elseif work.state == FAILED and string.find(work.fault, ARGV[20], 1, true) then
    -- What the image itself is to blame for stays as it is; out of time may have been our own load.
    revive(work, priority)
  end
end

redis.call('HSET', P .. 'j:' .. job, 'tenant', tenant, 'work', id, 'revision', 1, 'asked', ARGV[14], 'priority', priority,
  'delayed', ARGV[15], 'wait', ARGV[16], 'created', whole(NOW), 'cancelled', 0, 'idempotency', idempotency,
  'request', request)
redis.call('SADD', P .. 'wj:' .. id, job)
if work.state >= DONE then
  redis.call('HSET', P .. 'j:' .. job, 'finished', whole(NOW))
  redis.call('ZADD', P .. (work.state == DEAD and 'finished:dead' or 'finished'), whole(NOW), job)
end
if work.state < DONE then redis.call('SADD', P .. 'open:' .. tenant, job) end
do
  local day, bytes = string.match(redis.call('HGET', P .. 'taken', tenant) or '', '^(%d+) (%d+)$')
  local taken = tonumber(ARGV[8]) + (day == DAY and tonumber(bytes) or 0)
  redis.call('HSET', P .. 'taken', tenant, DAY .. ' ' .. whole(taken))
end
if idempotency ~= '' then redis.call('HSET', P .. 'idem', idempotency, job) end
count('accepted')
note(job, id, 'accepted')
-- The account has that end from the jobs before; by webhooks each job's is told.
if work.state >= DONE then note(job, id, BECAME[work.state], work.fault, 'webhooks') end
touch(id)
return answer({ 'accepted', show(job) })
