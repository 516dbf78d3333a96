-- ARGV: nothing, fan-out, first index, the index after the last. Answers the latest generation of each slot.
local fan_out = ARGV[2]
local rows = {}
for position = tonumber(ARGV[3]), tonumber(ARGV[4]) - 1 do
  local generation = redis.call('HGET', run .. 'latest:' .. fan_out, position) or '0'
  local row = redis.call('HGET', run .. 'slots:' .. fan_out, position .. ':' .. generation)
  if row then
    table.insert(rows, row)
  end
end
return rows
