-- ARGV: time, ttl seconds, 1 where they are in the company of other runs, then fan-out, index, generation, token of each.
-- Answers ok, lost or cancel for each.
local ttl, in_company = tonumber(ARGV[2]), ARGV[3] == '1'
local ends = clock() + ttl

local function beat(fan_out, index, generation, token)
  local entry = find(fan_out, index, generation)
  if not is_held(entry, token) then return is_forgotten() and 'cancel' or 'lost' end
  -- What was released is for others to take, also while its old holder still works on it.
  if not entry.is_released then
    entry.stage, entry.ends, entry.lasts, entry.is_in_company = 'running', ends, ttl, in_company or nil
    save(fan_out, index, entry)
  end
  return is_cancelled(fan_out) and 'cancel' or 'ok'
end

local answers = {}
for at = 4, #ARGV, 4 do
  answers[#answers + 1] = beat(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3])
end
return answers
