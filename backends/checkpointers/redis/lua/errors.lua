-- ARGV: nothing, fan-out, then index and generation of error rows. Answers those that no contribution supersedes.
local fan_out = ARGV[2]
local rows = {}
for at = 3, #ARGV, 2 do
  local position, generation = ARGV[at], tonumber(ARGV[at + 1])
  local latest = redis.call('HGET', run .. 'latest:' .. fan_out, position)
  local is_recorded = redis.call('HEXISTS', run .. 'slots:' .. fan_out, position .. ':0') == 1
  local recorded = latest and tonumber(latest) or (is_recorded and 0 or -1)
  local row = redis.call('HGET', run .. 'errors:' .. fan_out, position .. ':' .. generation)
  if row and recorded < generation then
    table.insert(rows, row)
  end
end
return rows
