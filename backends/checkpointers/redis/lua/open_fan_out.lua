-- ARGV: epoch, time ('' is now), fan-out, its facts, item hashes, item keys and item tags ('' where there are none).
if is_fenced() then return redis.error_reply('FENCED') end
local opened_at = ARGV[2] ~= '' and ARGV[2] or now()
local fan_out = ARGV[3]
if redis.call('HSETNX', run .. 'fan_outs', fan_out, opened_at .. '\n' .. ARGV[4]) == 1 then
  redis.call('HSET', run .. 'fan_outs', fan_out .. ':hashes', ARGV[5])
  if ARGV[6] ~= '' then redis.call('HSET', run .. 'fan_outs', fan_out .. ':keys', ARGV[6]) end
  if ARGV[7] ~= '' then redis.call('HSET', run .. 'fan_outs', fan_out .. ':tags', ARGV[7]) end
  redis.call('RPUSH', run .. 'entered', fan_out)
end
return redis.call('HMGET', run .. 'fan_outs', fan_out, fan_out .. ':hashes', fan_out .. ':keys', fan_out .. ':tags',
  fan_out .. ':fold')
