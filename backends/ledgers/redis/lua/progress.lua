-- ARGV: time, fan-out, index, generation, token, call, then the entries. Answers 1, or 0 where the token is stale.
-- `call` names this call, so that one sent twice keeps its entries once.
local fan_out, index, token, call = ARGV[2], ARGV[3], ARGV[5], ARGV[6]
local entry = find(fan_out, index, tonumber(ARGV[4]))
if not is_held(entry, token) then return 0 end
if entry.last_call == call then return 1 end
for at = 7, #ARGV do
  redis.call('RPUSH', run .. fan_out .. ':progress:' .. index, ARGV[at])
end
entry.has_progress, entry.last_call = true, call
save(fan_out, index, entry)
return 1
