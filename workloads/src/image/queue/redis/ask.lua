-- ARGV from 4: what, then its arguments. Questions that change nothing.
local what = ARGV[4]
if what == 'job' then
  return answer(show_own(ARGV[5], ARGV[6]))
elseif what == 'find' then
  local job = redis.call('HGET', P .. 'idem', ARGV[5])
  return answer(job and show_own(job, ARGV[6]))
elseif what == 'dead' then
  -- before, most, tenant or nothing
  local found, most = {}, tonumber(ARGV[6])
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', P .. 'dead', '(' .. ARGV[5], '-inf')) do
    local jobs = redis.call('SMEMBERS', P .. 'wj:' .. id)
    table.sort(jobs)
    for _, job in ipairs(jobs) do
      local told = redis.call('HMGET', P .. 'j:' .. job, 'tenant', 'cancelled')
      if #found < most and told[2] ~= '1' and (ARGV[7] == '' or told[1] == ARGV[7]) then found[#found + 1] = show(job) end
    end
    if #found >= most then break end
  end
  return answer(found)
elseif what == 'usage' then
  local told = redis.call('HGET', P .. 'taken', ARGV[5]) or ''
  local day, bytes = string.match(told, '^(%d+) (%d+)$')
  return answer({ redis.call('SCARD', P .. 'open:' .. ARGV[5]), day == DAY and bytes or '0' })
elseif what == 'whose' then
  return answer(show(ARGV[5]))
elseif what == 'wanted' then
  -- whether originals of works that are done are kept, and from when on, then object keys
  local wanted = {}
  for at = 7, #ARGV do wanted[#wanted + 1] = is_wanted(ARGV[at], ARGV[5], ARGV[6]) and 1 or 0 end
  return answer(wanted)
end
return redis.error_reply('ERR the queue knows no question ' .. what)
