-- ARGV: time, worker, reason, then fan-out, index, generation of each slot.
local news = {}
for at = 4, #ARGV, 3 do
  local fan_out, index = ARGV[at], ARGV[at + 1]
  local entry = find(fan_out, index, tonumber(ARGV[at + 2]))
  if entry and entry.stage == 'queued' then
    entry.declined_by, entry.reason = ARGV[2], ARGV[3]
    save(fan_out, index, entry)
    news[fan_out] = true
  end
end
for fan_out in pairs(news) do wake(fan_out, 'declined') end
