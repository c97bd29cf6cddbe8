-- What all scripts of the queue share. Each script is this text and its own after it, and runs as one: nothing of another
-- comes between, and either all of it is in the append-only file or nothing.
--
-- KEYS[1] is what all names begin with. It holds a hash tag, so all keys are in one slot, and a cluster keeps the queue on one
-- of its servers. ARGV[1] is the command that publishes, ARGV[2] the longest lease in milliseconds, ARGV[3] how many events the
-- account of jobs may have waiting (0: none is kept), how many webhooks, and which ones these tell, with commas between; a
-- script's own arguments follow.
--
--   seq                 the last work's number            works      key -> number           depth   sums, and leases given
--   w:N                 a work                            wj:N       the jobs that have it   wo:N    the objects it has made
--   j:ID                a job                             idem       idempotency key -> job  objects object -> work
--   o:KEY               the works of an original          finished   jobs that have ended, by when; finished:dead of dead works
--   ready:P             stream: works that are due        aside:P    stream: giants that were stepped over, in their order
--   later               works by when they are due        dead       dead works by when they died
--   idle:S              works that have ended and no job has, by when          obituary  stream: deaths, for who watches
--   open:TENANT         its jobs that have not ended           taken   tenant -> a day, and bytes of its originals then
--   secret              what names of objects are made with
--   events              stream: what happened to jobs, until it is in the account of jobs       sender  the node that sends them
--   webhooks            stream: the same, until webhooks have told it       sender:webhooks, letters    who tells, dead letters
--
-- A work that waits is an entry of a stream, or in `later`. A lease is the entry delivered to a consumer of the group `lanes`:
-- its idle time is the lease's age, renewing it claims it anew, and its end acknowledges and deletes it.

local P = KEYS[1] .. ':'
local PUBLISH = ARGV[1]
local LEASE_MS = ARGV[2]
-- Each reader's stream, how many events it may have waiting, which ones it is told of (nothing: all), and as what those are
-- counted that have no room.
local OUTBOXES = {}
do
  local words = {}
  for word in string.gmatch(ARGV[3], '[^,]+') do words[#words + 1] = word end
  local told = {}
  for at = 3, #words do told[words[at]] = true end
  if tonumber(words[1]) > 0 then OUTBOXES[1] = { name = 'events', most = tonumber(words[1]), lost = 'unnoted' } end
  if #words > 2 then
    OUTBOXES[#OUTBOXES + 1] = { name = 'webhooks', most = tonumber(words[2]), told = told, lost = 'untold' }
  end
end
local GROUP = 'lanes'
local WAITING, LEASED, DONE, FAILED, DEAD, CANCELLED = 0, 1, 2, 3, 4, 5
local OBITUARIES_MAX = 10000

local clock = redis.call('TIME')
local NOW = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- This day of UTC.
local DAY = string.format('%.0f', math.floor(NOW / 86400000))

local counted, touched = {}, {}

local function count(name, by)
  counted[name] = (counted[name] or 0) + (by or 1)
end

local function touch(id)
  touched[#touched + 1] = tostring(id)
end

-- Whole numbers, never 1e+15.
local function whole(number)
  return string.format('%.0f', number)
end

local function sum(state, priority, cpu, by)
  local depth = P .. 'depth'
  if state == WAITING then
    redis.call('HINCRBY', depth, priority == 0 and 'interactive' or 'bulk', whole(by))
    redis.call('HINCRBY', depth, 'cpu', whole(by * cpu))
  elseif state == LEASED then
    redis.call('HINCRBY', depth, 'leased', whole(by))
  elseif state == DEAD then
    redis.call('HINCRBY', depth, 'dead', whole(by))
  end
end

-- The sums, and which version of them: answers and news overtake each other, and the older ones count no more.
local function depth()
  local sums = redis.call('HMGET', P .. 'depth', 'version', 'interactive', 'bulk', 'leased', 'dead', 'cpu')
  for at = 1, 6 do sums[at] = sums[at] or '0' end
  return sums
end

-- Whether the reader of an outbox is told of such events.
local function is_told(outbox, event)
  return not outbox.told or outbox.told[event]
end

local function is_anybody_told(event)
  for _, outbox in ipairs(OUTBOXES) do
    if is_told(outbox, event) then return true end
  end
  return false
end

-- For those who are told, or the one of that name alone: something happened to a job of this work.
local function note(job, id, event, fault, only)
  if not is_anybody_told(event) then return end
  local told = redis.call('HMGET', P .. 'j:' .. job, 'tenant', 'revision')
  local names = { 'revision', 'attempts', 'lane', 'len', 'header', 'made' }
  local work = redis.call('HMGET', P .. 'w:' .. id, unpack(names))
  for _, outbox in ipairs(OUTBOXES) do
    if is_told(outbox, event) and (not only or only == outbox.name) then
      if redis.call('XLEN', P .. outbox.name) >= outbox.most then
        count(outbox.lost)
      else
        redis.call('XADD', P .. outbox.name, '*', 'job', job, 'revision', whole(tonumber(told[2]) + tonumber(work[1])),
          'event', event, 'time', whole(NOW), 'tenant', told[1], 'attempt', work[2], 'lane', work[3] or '', 'len', work[4],
          'header', work[5], 'made', event == 'done' and work[6] or '', 'fault', fault or '')
      end
    end
  end
end

-- The same of all jobs that want it.
local function note_all(id, event, fault)
  if not is_anybody_told(event) then return end
  for _, job in ipairs(redis.call('SMEMBERS', P .. 'wj:' .. id)) do
    if redis.call('HGET', P .. 'j:' .. job, 'cancelled') ~= '1' then note(job, id, event, fault) end
  end
end

-- The end of every script that changes something: tells who listens, and answers with the sums.
local function answer(result)
  if #touched > 0 then redis.call('HINCRBY', P .. 'depth', 'version', 1) end
  local sums = depth()
  if #touched > 0 then
    redis.call(PUBLISH, KEYS[1] .. ':news', table.concat(touched, ',') .. ' ' .. table.concat(sums, ' '))
  end
  local flat = {}
  for name, by in pairs(counted) do
    flat[#flat + 1] = name
    flat[#flat + 1] = by
  end
  return { result, sums, flat }
end

local function find_work(id)
  local names = { 'state', 'priority', 'turn', 'attempts', 'crashes', 'cpu', 'peak', 'stream', 'entry', 'fault', 'due' }
  local values = redis.call('HMGET', P .. 'w:' .. id, unpack(names))
  if not values[1] then return nil end
  local work = { id = tostring(id), stream = values[8] or '', entry = values[9] or '', fault = values[10] or '' }
  for _, at in ipairs({ 1, 2, 3, 4, 5, 6, 7, 11 }) do work[names[at]] = tonumber(values[at] or 0) end
  return work
end

-- Out of the stream or the set in which it is.
local function leave(work)
  if work.entry ~= '' then
    if work.state == LEASED then redis.call('XACK', work.stream, GROUP, work.entry) end
    redis.call('XDEL', work.stream, work.entry)
  else
    redis.call('ZREM', P .. 'later', work.id)
  end
  work.stream, work.entry = '', ''
end

-- Into the stream of what is due, or into the set of what will be.
local function place(work, due)
  if due <= NOW then
    work.stream = P .. 'ready:' .. work.priority
    work.entry = redis.call('XADD', work.stream, '*', 'w', work.id, 'p', whole(work.peak))
  else
    work.stream, work.entry = '', ''
    redis.call('ZADD', P .. 'later', whole(due), work.id)
  end
  redis.call('HSET', P .. 'w:' .. work.id, 'due', whole(due), 'stream', work.stream, 'entry', work.entry)
end

-- What becoming this is called in the account, where it is not what a work that waits came from.
local BECAME = { [LEASED] = 'leased', [DONE] = 'done', [FAILED] = 'failed', [DEAD] = 'dead', [CANCELLED] = 'cancelled' }

-- The one place where a work changes its state. `at` is when one that waits is due, and when any other became what it is.
local function change(work, to, at, fault)
  local key = P .. 'w:' .. work.id
  sum(work.state, work.priority, work.cpu, -1)
  sum(to, work.priority, work.cpu, 1)
  touch(work.id)
  if to ~= LEASED then leave(work) end
  if work.state == DEAD then redis.call('ZREM', P .. 'dead', work.id) end
  redis.call('HSET', key, 'state', to)
  redis.call('HINCRBY', key, 'revision', 1)
  if to == DONE then
    redis.call('HDEL', key, 'fault')
  elseif fault and fault ~= '' then
    redis.call('HSET', key, 'fault', fault)
  end
  local waits_anew = fault and fault ~= '' and 'retried' or work.state == LEASED and 'released' or 'revived'
  local has_ended = to >= DONE
  work.state = to
  if has_ended then
    redis.call('HSET', key, 'finished', whole(at), 'stream', '', 'entry', '')
  else
    redis.call('HDEL', key, 'finished')
    if to == WAITING then place(work, at) end
  end
  if to == DEAD then
    redis.call('ZADD', P .. 'dead', whole(at), work.id)
    redis.call('XADD', P .. 'obituary', 'MAXLEN', '~', OBITUARIES_MAX, '*', 'work', work.id, 'fault', fault or '')
  end
  for _, job in ipairs(redis.call('SMEMBERS', P .. 'wj:' .. work.id)) do
    local name = P .. 'j:' .. job
    if redis.call('HGET', name, 'cancelled') ~= '1' then
      redis.call('ZREM', P .. 'finished', job)
      redis.call('ZREM', P .. 'finished:dead', job)
      redis.call(has_ended and 'SREM' or 'SADD', P .. 'open:' .. redis.call('HGET', name, 'tenant'), job)
      if has_ended then
        redis.call('HSET', name, 'finished', whole(at))
        redis.call('ZADD', P .. (to == DEAD and 'finished:dead' or 'finished'), whole(at), job)
      else
        redis.call('HDEL', name, 'finished')
      end
    end
  end
  note_all(work.id, BECAME[to] or waits_anew, fault)
end

-- Begins anew, with all attempts before it.
local function revive(work, priority)
  local key = P .. 'w:' .. work.id
  redis.call('HSET', key, 'attempts', 0, 'crashes', 0, 'priority', priority)
  redis.call('HDEL', key, 'fault')
  work.attempts, work.crashes = 0, 0
  -- It does not wait, so no sum depends on the old priority.
  work.priority = priority
  change(work, WAITING, NOW)
end

-- `policy` is the most attempts, the most crashes, the first and the longest wait, and a random number.
local function end_attempt(work, fault, is_transient, is_crash, policy)
  work.crashes = work.crashes + (is_crash and 1 or 0)
  redis.call('HSET', P .. 'w:' .. work.id, 'crashes', work.crashes)
  if not is_transient then
    count('failed')
    change(work, FAILED, NOW, fault)
    return -1
  end
  if work.attempts >= policy.attempts_max or work.crashes >= policy.crashes_max then
    count('died')
    change(work, DEAD, NOW, fault)
    return -1
  end
  local bound = math.min(policy.backoff * 2 ^ math.min(math.max(work.attempts - 1, 0), 31), policy.backoff_max)
  local wait = math.floor(policy.random * (bound + 1))
  count('retried')
  change(work, WAITING, NOW + wait, fault)
  return wait
end

local function policy_at(at)
  return {
    attempts_max = tonumber(ARGV[at]), crashes_max = tonumber(ARGV[at + 1]), backoff = tonumber(ARGV[at + 2]),
    backoff_max = tonumber(ARGV[at + 3]), random = tonumber(ARGV[at + 4]),
  }
end

-- A lease is valid while its work is leased and its turn is the newest.
local function holds(id, turn)
  local work = find_work(id)
  if work and work.state == LEASED and work.turn == tonumber(turn) then return work end
  return nil
end

local function show(job)
  local fields = redis.call('HGETALL', P .. 'j:' .. job)
  if #fields == 0 then return false end
  local work = redis.call('HGET', P .. 'j:' .. job, 'work')
  return { job, fields, redis.call('HGETALL', P .. 'w:' .. work) }
end

local function show_own(job, tenant)
  if redis.call('HGET', P .. 'j:' .. job, 'tenant') ~= tenant then return false end
  return show(job)
end

-- No job has it, and nothing of it is kept.
local function forget_work(work)
  local key = redis.call('HMGET', P .. 'w:' .. work.id, 'key', 'original')
  redis.call('HDEL', P .. 'works', key[1])
  for _, object in ipairs(redis.call('SMEMBERS', P .. 'wo:' .. work.id)) do redis.call('HDEL', P .. 'objects', object) end
  redis.call('SREM', P .. 'o:' .. key[2], work.id)
  redis.call('ZREM', P .. 'dead', work.id)
  redis.call('DEL', P .. 'w:' .. work.id, P .. 'wj:' .. work.id, P .. 'wo:' .. work.id)
  sum(work.state, work.priority, work.cpu, -1)
  touch(work.id)
end

-- Whether a work refers to an object: as its output, or as the original that it is made of. `kept` is whether originals of works
-- that are done are, those that have ended after `since` (nothing: all of them).
local function is_wanted(object, kept, since)
  if redis.call('HEXISTS', P .. 'objects', object) == 1 then return true end
  if string.sub(object, -9) ~= '.original' then return false end
  for _, id in ipairs(redis.call('SMEMBERS', P .. 'o:' .. object)) do
    local told = redis.call('HMGET', P .. 'w:' .. id, 'state', 'finished')
    local state = tonumber(told[1] or CANCELLED)
    if state == WAITING or state == LEASED or state == DEAD then return true end
    if state == DONE and kept == '1' and (since == '' or tonumber(told[2] or 0) > tonumber(since)) then return true end
  end
  return false
end
