-- ARGV: time, epoch, fan-out, bitmap of what is recorded, briefing, its hash, when the run was created.
local epoch, fan_out, recorded = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local refusal = fence(epoch)
if refusal then return refusal end

redis.call('DEL', run .. 'tombstone')
redis.call('HSET', run .. 'meta', 'epoch', ARGV[2], 'created_at', ARGV[7])
redis.call('SADD', run .. 'fan_outs', fan_out)
redis.call('SET', run .. fan_out .. ':closed', recorded)
local head = run .. fan_out .. ':head'
redis.call('HSET', head, 'briefing', ARGV[5], 'briefing_hash', ARGV[6])
redis.call('HSETNX', head, 'last_order', 0)
redis.call('HSETNX', head, 'last_claimed', 0)
for _, index in ipairs(redis.call('HKEYS', run .. fan_out .. ':slots')) do
  if not is_index(index) or redis.call('GETBIT', run .. fan_out .. ':closed', index) == 1 then drop(fan_out, index) end
end
