-- KEYS[1]: the registry. ARGV: time, worker, ttl seconds, facts as JSON.
local now = clock()
local is_new = redis.call('HSET', KEYS[1], ARGV[2], cmsgpack.pack({ now + tonumber(ARGV[3]), ARGV[4] })) == 1
if not is_new then return end
-- Who comes clears away who is gone: those who only look at the registry may not be allowed to.
local packed = redis.call('HGETALL', KEYS[1])
for at = 1, #packed, 2 do
  local is_ours, told = pcall(cmsgpack.unpack, packed[at + 1])
  local is_there = is_ours and type(told) == 'table' and type(told[1]) == 'number' and told[1] > now
  if not is_there then redis.call('HDEL', KEYS[1], packed[at]) end
end
