-- ARGV: time, epoch, then fan-out, index, generation of each slot.
local fan_outs = {}
for at = 3, #ARGV, 3 do fan_outs[ARGV[at]] = true end
local refusal = guard(tonumber(ARGV[2]), fan_outs)
if refusal then return refusal end

for at = 3, #ARGV, 3 do
  local fan_out, index, generation = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if not is_over(fan_out, index, generation) then
    drop(fan_out, index)
    redis.call('SETBIT', run .. fan_out .. ':closed', index, 1)
    if generation > 0 then redis.call('HSET', run .. fan_out .. ':generations', index, generation) end
  end
end
