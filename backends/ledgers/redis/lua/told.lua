-- ARGV: time, largest answer in bytes, then fan-out, index, generation, and how many entries are known of each slot.
-- Answers {first of the entries, entry...} for each; what is beyond that size waits for the next call.
local room = tonumber(ARGV[2])

local function told(fan_out, index, generation, start)
  local entry = find(fan_out, index, generation)
  if not entry or not entry.has_progress then return { 0 } end
  local kept = run .. fan_out .. ':progress:' .. index
  if start > redis.call('LLEN', kept) then start = 0 end
  local answer = { start }
  for _, text in ipairs(redis.call('LRANGE', kept, start, -1)) do
    if room <= 0 then return answer end
    room = room - #text
    answer[#answer + 1] = text
  end
  return answer
end

local answers = {}
for at = 3, #ARGV, 4 do
  answers[#answers + 1] = told(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
end
return answers
