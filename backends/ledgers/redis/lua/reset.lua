-- ARGV: time, epoch, then fan-out, index, generation of each slot.
local fan_outs = {}
for at = 3, #ARGV, 3 do fan_outs[ARGV[at]] = true end
local refusal = guard(tonumber(ARGV[2]), fan_outs)
if refusal then return refusal end

for at = 3, #ARGV, 3 do
  local fan_out, index, generation = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  save(fan_out, index, fresh(fan_out, index, generation))
end
