-- ARGV from 4: node, lane, how many, bytes, bytes in all, a giant's bytes, whether a giant may be taken, bulk's share.
local node, lane = ARGV[4], ARGV[5]
local most, bytes, total = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local giant_bytes, giant, share = tonumber(ARGV[9]), ARGV[10] == '1', tonumber(ARGV[11])

-- Giants that are moved aside for one lease, at most.
local ASIDE_MAX = 1000

-- The first entry that nobody has: its id, its work, its peak.
local function head(stream)
  local groups = redis.call('XINFO', 'GROUPS', stream)
  for _, group in ipairs(groups) do
    local told = {}
    for at = 1, #group, 2 do told[group[at]] = group[at + 1] end
    if told.name == GROUP then
      local entry = redis.call('XRANGE', stream, '(' .. told['last-delivered-id'], '+', 'COUNT', 1)[1]
      if not entry then return nil end
      local fields = entry[2]
      return { entry = entry[1], id = fields[2], peak = tonumber(fields[4]), stream = stream }
    end
  end
  return nil
end

-- The first work of this priority that may run; 'wait' when it is its turn and it does not fit yet.
local function next_of(priority)
  local aside, ready = P .. 'aside:' .. priority, P .. 'ready:' .. priority
  local first = head(aside)
  if first then
    if first.peak > total then return first end
    if first.peak <= giant_bytes or giant then return first.peak > bytes and 'wait' or first end
  end
  for _ = 1, ASIDE_MAX do
    local found = head(ready)
    if not found then return nil end
    if found.peak > total then return found end
    if found.peak <= giant_bytes or giant then return found.peak > bytes and 'wait' or found end
    -- Stepped over, not waited for; whoever has room for a giant looks there first.
    redis.call('XDEL', ready, found.entry)
    local entry = redis.call('XADD', aside, '*', 'w', found.id, 'p', whole(found.peak))
    redis.call('HSET', P .. 'w:' .. found.id, 'stream', aside, 'entry', entry)
  end
  return nil
end

local leases = {}
while #leases < most do
  local given = tonumber(redis.call('HGET', P .. 'depth', 'given') or 0)
  local is_bulk_first = given % share == share - 1
  local found = next_of(is_bulk_first and 1 or 0) or next_of(is_bulk_first and 0 or 1)
  if not found or found == 'wait' then break end
  redis.call('HINCRBY', P .. 'depth', 'given', 1)
  -- Delivers exactly the entry that was looked at: nothing comes in between.
  redis.call('XREADGROUP', 'GROUP', GROUP, node, 'COUNT', 1, 'STREAMS', found.stream, '>')
  local work = find_work(found.id)
  if work and work.state == WAITING and work.entry == found.entry then
    local key = P .. 'w:' .. work.id
    redis.call('HINCRBY', key, 'turn', 1)
    redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('HSET', key, 'lane', lane, 'started', whole(NOW), 'progress', 0)
    change(work, LEASED, NOW)
    if found.peak <= total then bytes = bytes - found.peak end
    if found.peak > giant_bytes then giant = false end
    leases[#leases + 1] = { work.id, redis.call('HGETALL', key) }
  else
    -- An entry that no work knows of: nothing of ours leaves one, and it must not be in the way.
    redis.call('XACK', found.stream, GROUP, found.entry)
    redis.call('XDEL', found.stream, found.entry)
  end
end
return answer(leases)
