-- ARGV from 4: job, tenant.
local job, tenant = ARGV[4], ARGV[5]
local name = P .. 'j:' .. job
local told = redis.call('HMGET', name, 'tenant', 'cancelled', 'work')
if told[1] ~= tenant then return answer(false) end
local work = find_work(told[3])
if told[2] == '1' or not work or work.state >= DONE then return answer(show(job)) end
redis.call('HSET', name, 'cancelled', 1, 'finished', whole(NOW))
redis.call('HINCRBY', name, 'revision', 1)
redis.call('SREM', P .. 'open:' .. tenant, job)
redis.call('ZADD', P .. 'finished', whole(NOW), job)
note(job, work.id, 'cancelled')
touch(work.id)
for _, other in ipairs(redis.call('SMEMBERS', P .. 'wj:' .. work.id)) do
  if redis.call('HGET', P .. 'j:' .. other, 'cancelled') ~= '1' then return answer(show(job)) end
end
count('cancelled')
change(work, CANCELLED, NOW)
return answer(show(job))
