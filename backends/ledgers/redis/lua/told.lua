-- ARGV: time, epoch, largest answer in bytes, then fan-out, index, generation, and how many entries are known of each slot.
-- Answers {first of the entries, how many of these an earlier owner was given, entry...} for each; what is beyond that
-- size waits for the next call.
local epoch, room = tonumber(ARGV[2]), tonumber(ARGV[3])
local refusal = fence(epoch)
if refusal then return refusal end

-- Notes that this owner was given all before `stop`.
local function give(fan_out, index, entry, stop)
  if stop <= (entry.given or 0) then return end
  if entry.given_to ~= epoch then entry.given_to, entry.given_before = epoch, entry.given or 0 end
  entry.given = stop
  -- A full server refuses a script at its first write only, and only where that one adds.
  redis.call('HDEL', run .. fan_out .. ':slots', index)
  save(fan_out, index, entry)
end

local function told(fan_out, index, generation, start)
  local entry = find(fan_out, index, generation)
  if not entry or not entry.has_progress then return { 0, 0 } end
  local kept = run .. fan_out .. ':progress:' .. index
  if start > redis.call('LLEN', kept) then start = 0 end
  local before = entry.given_to == epoch and entry.given_before or entry.given or 0
  local answer = { start, math.max(before - start, 0) }
  for _, text in ipairs(redis.call('LRANGE', kept, start, -1)) do
    if room <= 0 then break end
    room = room - #text
    answer[#answer + 1] = text
  end
  give(fan_out, index, entry, start + #answer - 2)
  return answer
end

local answers = {}
for at = 4, #ARGV, 4 do
  answers[#answers + 1] = told(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
end
return answers
