-- KEYS[1]: the registry. ARGV: time. Answers the facts of each live worker.
local now = clock()
local answers = {}
local packed = redis.call('HGETALL', KEYS[1])
for at = 1, #packed, 2 do
  local ends, facts = unpack(cmsgpack.unpack(packed[at + 1]))
  if ends > now then answers[#answers + 1] = facts end
end
return answers
