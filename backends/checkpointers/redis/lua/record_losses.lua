-- ARGV: epoch, then for each loss: fan-out, index:generation, delivery, 1 where it is charged, worker.
-- Answers how many charged ones each slot has now.
if is_fenced() then return redis.error_reply('FENCED') end
for at = 2, #ARGV, 5 do
  local fan_out, slot, delivery, is_charged, worker = unpack(ARGV, at, at + 4)
  redis.call('SADD', run .. 'recorded_in', fan_out)
  if redis.call('HSETNX', run .. 'losses:' .. fan_out, slot .. ':' .. delivery, is_charged .. worker) == 1 then
    redis.call('HINCRBY', run .. 'tally:' .. fan_out, 'losses', 1)
    redis.call('HINCRBY', run .. 'charged:' .. fan_out, slot, is_charged)
  end
end
local charged = {}
for at = 2, #ARGV, 5 do
  table.insert(charged, tonumber(redis.call('HGET', run .. 'charged:' .. ARGV[at], ARGV[at + 1])))
end
return charged
