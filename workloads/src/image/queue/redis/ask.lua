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
elseif what == 'wanted' then
  -- whether originals of works that are done are kept, then object keys
  local wanted = {}
  for at = 6, #ARGV do
    local is_wanted = redis.call('HEXISTS', P .. 'objects', ARGV[at])
    if is_wanted == 0 and string.sub(ARGV[at], -9) == '.original' then
      for _, id in ipairs(redis.call('SMEMBERS', P .. 'o:' .. ARGV[at])) do
        local state = tonumber(redis.call('HGET', P .. 'w:' .. id, 'state') or CANCELLED)
        if state == WAITING or state == LEASED or state == DEAD or (state == DONE and ARGV[5] == '1') then is_wanted = 1 end
      end
    end
    wanted[#wanted + 1] = is_wanted
  end
  return answer(wanted)
end
return redis.error_reply('ERR the queue knows no question ' .. what)
