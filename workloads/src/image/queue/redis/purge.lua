-- ARGV from 4: job, tenant, whether originals of works that are done are kept, and from when they must have ended for that.
-- Answers whether it is known (0), has not ended (1), or is gone (2); then its outputs stay because of another job (1 or 0),
-- whether its original is to go (1 or 0), the original, and the objects that are to go.
local job, tenant = ARGV[4], ARGV[5]
local name = P .. 'j:' .. job
local told = redis.call('HMGET', name, 'tenant', 'cancelled', 'work', 'idempotency')
if told[1] ~= tenant then return answer({ 0 }) end
local work = find_work(told[3])
if told[2] ~= '1' and work and work.state < DONE then return answer({ 1, show(job) }) end
redis.call('DEL', name)
redis.call('ZREM', P .. 'finished', job)
redis.call('ZREM', P .. 'finished:dead', job)
if told[4] and told[4] ~= '' and redis.call('HGET', P .. 'idem', told[4]) == job then redis.call('HDEL', P .. 'idem', told[4]) end
redis.call('SREM', P .. 'wj:' .. told[3], job)
touch(told[3])
if not work then return answer({ 2, 0, 0, '' }) end
local original = redis.call('HGET', P .. 'w:' .. work.id, 'original')
local gone = {}
local has_others = redis.call('SCARD', P .. 'wj:' .. work.id) > 0
if not has_others then
  gone = redis.call('SMEMBERS', P .. 'wo:' .. work.id)
  for state = DONE, CANCELLED do redis.call('ZREM', P .. 'idle:' .. state, work.id) end
  forget_work(work)
end
local result = { 2, has_others and 1 or 0, is_wanted(original, ARGV[6], ARGV[7]) and 0 or 1, original }
for _, object in ipairs(gone) do result[#result + 1] = object end
return answer(result)
