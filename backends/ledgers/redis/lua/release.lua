-- ARGV: time, owner. Ends its leases in this run, and says how many.
local owner = ARGV[2]
local count = 0
for _, fan_out in ipairs(redis.call('SMEMBERS', run .. 'fan_outs')) do
  local packed = redis.call('HGETALL', run .. fan_out .. ':slots')
  for at = 1, #packed, 2 do
    local entry = cmsgpack.unpack(packed[at + 1])
    if entry.owner == owner and entry.stage == 'running' and not entry.is_released then
      entry.ends, entry.is_released = 0, true
      save(fan_out, packed[at], entry)
      count = count + 1
    end
  end
end
if count > 0 then wake('lapsed') end
return count
