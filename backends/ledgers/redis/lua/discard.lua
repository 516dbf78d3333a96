-- ARGV: time, then fan-out, index, report of each. Takes a report back that nobody can believe: as if its worker had died.
for at = 2, #ARGV, 3 do
  local fan_out, index = ARGV[at], ARGV[at + 1]
  local entry = entry_of(fan_out, index)
  if entry and entry.stage == 'reported' and redis.call('HGET', run .. fan_out .. ':reports', index) == ARGV[at + 2] then
    entry.stage, entry.token, entry.ends = 'running', '', 0
    save(fan_out, index, entry)
    redis.call('HDEL', run .. fan_out .. ':reports', index)
  end
end
