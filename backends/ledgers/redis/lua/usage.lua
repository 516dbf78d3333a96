-- ARGV: time, then the fan-outs. Answers how many bytes of reports are kept of them.
local total = 0
for at = 2, #ARGV do
  local kept = run .. ARGV[at] .. ':reports'
  for _, index in ipairs(redis.call('HKEYS', kept)) do total = total + redis.call('HSTRLEN', kept, index) end
end
return total
