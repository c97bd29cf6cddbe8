-- ARGV from 4: how, then its arguments. Dead letters of webhooks: what is given up, which there are, and what is told again.
local how = ARGV[4]
local events, letters = P .. 'webhooks', P .. 'letters'

if how == 'list' then
  -- what they come before, how many
  return answer(redis.call('XREVRANGE', letters, ARGV[5], '-', 'COUNT', ARGV[6]))
end

local moved = 0
if how == 'give up' then
  -- the last one, why, how many are kept
  for _, entry in ipairs(redis.call('XRANGE', events, '-', ARGV[5])) do
    local record = entry[2]
    for _, word in ipairs({ 'why', ARGV[6], 'given_up', whole(NOW) }) do record[#record + 1] = word end
    redis.call('XADD', letters, '*', unpack(record))
    redis.call('XDEL', events, entry[1])
    moved = moved + 1
  end
  local gone = redis.call('XTRIM', letters, 'MAXLEN', ARGV[7])
  if gone > 0 then count('untold', gone) end
else
  -- one, or nothing: the oldest; how many
  local first, last = ARGV[5], ARGV[5]
  if first == '' then first, last = '-', '+' end
  for _, entry in ipairs(redis.call('XRANGE', letters, first, last, 'COUNT', ARGV[6])) do
    local record = entry[2]
    for _ = 1, 4 do record[#record] = nil end
    redis.call('XADD', events, '*', unpack(record))
    redis.call('XDEL', letters, entry[1])
    moved = moved + 1
  end
end
return answer({ moved, redis.call('XLEN', letters) })
