-- ARGV: time, worker, reason, then fan-out, index, generation of each slot.
local is_news = false
for at = 4, #ARGV, 3 do
  local fan_out, index = ARGV[at], ARGV[at + 1]
  local entry = find(fan_out, index, tonumber(ARGV[at + 2]))
  if entry and entry.stage == 'queued' then
    entry.declined_by, entry.reason = ARGV[2], ARGV[3]
    save(fan_out, index, entry)
    is_news = true
  end
end
if is_news then wake('declined') end
