-- ARGV from 3: job, tenant, work's key, original, len, header, recipes, peak, cpu, priority, asked, delayed, wait, idempotency
-- key or nothing, request, most that may wait, fault's kind that may be asked for again.
local job, tenant, key, original = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local priority, idempotency, request = tonumber(ARGV[12]), ARGV[16], ARGV[17]

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
  if tonumber(sums[2]) + tonumber(sums[3]) >= tonumber(ARGV[18]) then return answer({ 'refused' }) end
  id = whole(redis.call('INCR', P .. 'seq'))
  redis.call('HSET', P .. 'works', key, id)
  redis.call('HSET', P .. 'w:' .. id, 'key', key, 'state', WAITING, 'priority', priority, 'turn', 0, 'revision', 0,
    'attempts', 0, 'crashes', 0, 'original', original, 'len', ARGV[7], 'header', ARGV[8], 'recipes', ARGV[9],
    'peak', ARGV[10], 'cpu', ARGV[11])
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
  elseif work.state == FAILED and string.find(work.fault, ARGV[19], 1, true) then
    -- What the image itself is to blame for stays as it is; out of time may have been our own load.
    revive(work, priority)
  end
end

redis.call('HSET', P .. 'j:' .. job, 'tenant', tenant, 'work', id, 'revision', 1, 'asked', ARGV[13], 'priority', priority,
  'delayed', ARGV[14], 'wait', ARGV[15], 'created', whole(NOW), 'cancelled', 0, 'idempotency', idempotency,
  'request', request)
redis.call('SADD', P .. 'wj:' .. id, job)
if work.state >= DONE then
  redis.call('HSET', P .. 'j:' .. job, 'finished', whole(NOW))
  redis.call('ZADD', P .. (work.state == DEAD and 'finished:dead' or 'finished'), whole(NOW), job)
end
if idempotency ~= '' then redis.call('HSET', P .. 'idem', idempotency, job) end
count('accepted')
touch(id)
return answer({ 'accepted', show(job) })
