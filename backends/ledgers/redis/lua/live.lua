-- ARGV: time, fan-out. Answers {index, generation, stage, delivery, owner, key} of each slot under way.
local answers = {}
local packed = redis.call('HGETALL', run .. ARGV[2] .. ':slots')
for at = 1, #packed, 2 do
  local entry = cmsgpack.unpack(packed[at + 1])
  if entry.stage ~= 'free' then
    answers[#answers + 1] = { packed[at], entry.generation, entry.stage, entry.delivery, entry.owner, entry.key }
  end
end
return answers
