-- ARGV: time, epoch, fan-out or empty for the whole run, seconds that a tombstone stays.
local refusal = fence(tonumber(ARGV[2]))
if refusal then return refusal end

local function forget(fan_out)
  local prefix = run .. fan_out .. ':'
  for _, index in ipairs(redis.call('HKEYS', prefix .. 'slots')) do redis.call('UNLINK', prefix .. 'progress:' .. index) end
  redis.call('UNLINK', prefix .. 'head', prefix .. 'closed', prefix .. 'generations', prefix .. 'slots',
    prefix .. 'items', prefix .. 'reports', prefix .. 'wake')
  redis.call('SREM', run .. 'fan_outs', fan_out)
end

if ARGV[3] ~= '' then
  forget(ARGV[3])
else
  for _, fan_out in ipairs(redis.call('SMEMBERS', run .. 'fan_outs')) do forget(fan_out) end
  local told = ARGV[2] .. ' ' .. created_at()
  redis.call('UNLINK', run .. 'meta')
  redis.call('SET', run .. 'tombstone', told, 'EX', ARGV[4])
end
