-- ARGV from 4: how, work, turn, then its arguments. The end of an attempt: -1 it has ended, -2 it was stale, else how long the
-- next attempt waits.
local how, id, turn = ARGV[4], ARGV[5], ARGV[6]
if how == 'complete' then
  -- manifest, lane, bytes of the outputs, objects. An older holder's outputs are the same objects as the newest one's: whoever
  -- comes first ends it.
  local work = find_work(id)
  if not work or not (work.state == WAITING or work.state == LEASED or work.state == DEAD) then return answer(-2) end
  redis.call('HSET', P .. 'w:' .. id, 'manifest', ARGV[7], 'lane', ARGV[8], 'made', ARGV[9])
  for at = 10, #ARGV do
    redis.call('HSET', P .. 'objects', ARGV[at], id)
    redis.call('SADD', P .. 'wo:' .. id, ARGV[at])
  end
  count('done')
  change(work, DONE, NOW)
  return answer(-1)
end
local work = holds(id, turn)
if not work then return answer(-2) end
if how == 'fail' then
  -- fault, whether it passes, whether it was a crash, policy
  return answer(end_attempt(work, ARGV[7], ARGV[8] == '1', ARGV[9] == '1', policy_at(10)))
end
-- As if it had not been taken.
redis.call('HSET', P .. 'w:' .. id, 'attempts', math.max(work.attempts - 1, 0))
change(work, WAITING, NOW)
return answer(0)
