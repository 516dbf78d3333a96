-- KEYS[1]: the registry. ARGV: time. Answers the facts of each live worker, and drops the others.
local now = clock()
local answers = {}
local packed = redis.call('HGETALL', KEYS[1])
for at = 1, #packed, 2 do
  local ends, facts = unpack(cmsgpack.unpack(packed[at + 1]))
  if ends > now then
    answers[#answers + 1] = facts
  else
    redis.call('HDEL', KEYS[1], packed[at])
  end
end
return answers
