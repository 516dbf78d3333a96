-- KEYS[1]: the registry. ARGV: time. Answers the facts of each live worker.
local now = clock()
local answers = {}
local packed = redis.call('HGETALL', KEYS[1])
for at = 1, #packed, 2 do
  local is_ours, told = pcall(cmsgpack.unpack, packed[at + 1])
  if is_ours and type(told) == 'table' and type(told[1]) == 'number' and told[1] > now then
    answers[#answers + 1] = tostring(told[2])
  end
end
return answers
