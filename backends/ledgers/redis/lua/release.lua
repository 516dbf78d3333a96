-- ARGV: time, owner, 1 where it has died. Ends its leases in this run, and says how many.
local owner, has_died = ARGV[2], ARGV[3] == '1'
local count = 0
for _, fan_out in ipairs(redis.call('SMEMBERS', run .. 'fan_outs')) do
  local before = count
  each_entry(fan_out, function(index, entry)
    if entry.owner == owner and entry.stage == 'running' and not entry.is_released then
      entry.ends, entry.is_released, entry.is_handed_back = 0, true, not has_died
      save(fan_out, index, entry)
      count = count + 1
    end
  end)
  if count > before then wake(fan_out, 'lapsed') end
end
return count
