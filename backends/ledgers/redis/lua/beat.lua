-- ARGV: time, ttl seconds, then fan-out, index, generation, token of each. Answers ok, lost or cancel for each.
local ttl = tonumber(ARGV[2])
local ends = clock() + ttl

local function beat(fan_out, index, generation, token)
  local entry = find(fan_out, index, generation)
  if not is_held(entry, token) then return 'lost' end
  -- What was released is for others to take, also while its old holder still works on it.
  if not entry.is_released then
    entry.stage, entry.ends, entry.lasts = 'running', ends, ttl
    save(fan_out, index, entry)
  end
  return is_cancelled(fan_out) and 'cancel' or 'ok'
end

local answers = {}
for at = 3, #ARGV, 4 do
  answers[#answers + 1] = beat(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3])
end
return answers
