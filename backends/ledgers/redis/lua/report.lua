-- ARGV: time, then fan-out, index, generation, token, report of each. Answers ok, stale or over for each.
local news = {}

local function report(fan_out, index, generation, token, text)
  local entry = find(fan_out, index, generation)
  if is_held(entry, token) then
    entry.stage = 'reported'
    save(fan_out, index, entry)
    redis.call('HSET', run .. fan_out .. ':reports', index, text)
    news[fan_out] = true
    return 'ok'
  end
  if entry and token ~= '' and entry.token == token then return 'ok' end
  return is_forgotten() and 'over' or 'stale'
end

local answers = {}
for at = 2, #ARGV, 5 do
  answers[#answers + 1] = report(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4])
end
for fan_out in pairs(news) do wake(fan_out, 'reported') end
return answers
